"""What the folders and file names of a user's images say: label, board, part type, name and light of a part."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.text import quoted

FIELDS = ("label", "board", "part_type", "object", "light")
MAX_LIGHTS = 8
LIGHT_SHARE = 0.8
"""An ending that fewer of the names have is no light: a few parts may lack an image, which is then named."""


class Pattern:
    """``{board}/{part_type}/{object}_{light}``: a path without its suffix; ``*`` is any text within one folder.

    Args:
        text: the pattern. lights: names of the lights, where they are known.

    Raises:
        UsageError: an unknown field, one given twice, or none.
    """

    def __init__(self, text: str, lights: Sequence[str] = ()) -> None:
        self.fields = re.findall(r"\{(\w*)\}", text)
        if not self.fields or not set(self.fields) <= set(FIELDS) or len(set(self.fields)) < len(self.fields):
            raise UsageError(
                "--pattern cannot be read",
                expected=" ".join(f"{{{name}}}" for name in FIELDS) + ", each at most once, as in {board}/{object}_{light}",
                found=quoted(text),
            )
        light = "|".join(re.escape(name) for name in lights if name) or "[^/_. -]+"
        self._expression = _expression(text, light)
        self._golden = _expression(re.sub(r"\{label\}/", "", text), light)

    def read(self, key: str) -> dict[str, str] | None:
        """The fields of a path below the label folder; below the folder of all labels, where the pattern has the label."""
        found = self._expression.fullmatch(key)
        return found.groupdict() if found else None

    def split_light(self, key: str) -> tuple[str, str] | None:
        """``(path without the light, light)``; the path may begin with a label folder that the pattern does not have.

        A golden's path may lack the label folder that the pattern has.
        """
        for start in dict.fromkeys((0, key.find("/") + 1)):
            found = self._expression.fullmatch(key, start) or self._golden.fullmatch(key, start)
            if found and "light" in self.fields:
                low, high = found.span("light")
                return re.sub(r"^/|[_. -]+$|(?<=/)/", "", key[:low].rstrip("_. -") + key[high:]), found["light"]
        return None


def _expression(text: str, light: str) -> re.Pattern[str]:
    """A regular expression with the pattern's fields as groups."""
    pieces = re.split(r"\{(\w*)\}", text)
    out = re.escape(pieces[0])
    for name, literal in zip(pieces[1::2], pieces[2::2], strict=True):
        out += f"(?P<{name}>{light if name == 'light' else '[^/]+?'})" + re.escape(literal)
    return re.compile(out.replace(r"\*", "[^/]*?"))


def lights_by_pattern(keys: Iterable[str], pattern: Pattern) -> tuple[str, ...]:
    """The lights that the paths have, sorted. Raises UsageError for more than ``MAX_LIGHTS``."""
    found = sorted({split[1] for key in keys if (split := pattern.split_light(key))})
    if len(found) > MAX_LIGHTS:
        raise UsageError(
            f"--pattern finds {len(found)} lights",
            expected=f"at most {MAX_LIGHTS}",
            found=quoted(", ".join(found[:MAX_LIGHTS])),
            hint="give the lights with --lights A,B",
        )
    return tuple(found) or ("",)


def proposed_lights(keys: Iterable[str]) -> tuple[str, ...]:
    """Endings like ``_Solder`` and ``_White`` that nearly all names have, 2 to 8 of them; else nothing.

    At least three letters: ``_R12`` and ``_1`` are parts of a board.
    """
    endings: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        name, _, ending = key.rpartition("_")
        if not name or not re.fullmatch(r"[^\W\d_]{3,}\d*", ending):
            return ()
        endings[name].add(ending)
    lights = sorted(set().union(*endings.values()))
    often = [sum(light in own for own in endings.values()) >= LIGHT_SHARE * len(endings) for light in lights]
    return tuple(lights) if 2 <= len(lights) <= MAX_LIGHTS and all(often) else ()


def refuse_unsaid_lights(keys: Sequence[str]) -> None:
    """Stop where the names look as if a part had several images and the user did not say so.

    Raises:
        UsageError: with the lights that are likely, and the way to say that there are none.
    """
    lights = proposed_lights(keys)
    if lights:
        raise UsageError(
            "the file names look like several lights of each part",
            expected="--lights, so that the images of a part are not taken for parts of their own",
            found=f"{len(keys)} images; the names end in {quoted(', '.join(lights))}",
            hint=f"did you mean --lights {','.join(lights)}? --lights none: each image is a part",
        )
