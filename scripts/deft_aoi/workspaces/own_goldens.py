"""Golden images of a user's own data: the one at the same path, else the one that a rule of the user names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.text import quoted

RULES = ("part_type", "object_name", "file")
LISTED = 3


class GoldenLibrary:
    """A folder of golden images. No golden stands in for a missing one, unless the user named the rule.

    Args:
        root: the folder.
        files: name without light and suffix, relative to ``root`` → files, one a light.
        rule: ``part_type`` (a file or folder of that name), ``object_name`` (a file of that name): the first by name of
            several; ``file``: the only one of that file name; ``None``: only the same path.
    """

    def __init__(self, root: Path, files: Mapping[str, Sequence[str]], rule: str | None) -> None:
        self._root, self._files, self._rule = root, files, rule
        self._by_word: dict[str, list[str]] = defaultdict(list)
        for key in sorted(files):
            words = key.split("/") if rule == "part_type" else [key.rpartition("/")[2]]
            for word in dict.fromkeys(words):
                self._by_word[word].append(key)
        self._used: list[tuple[str, str, int]] = []

    def of(self, same: Sequence[str], words: Mapping[str, str], origin: str) -> tuple[tuple[Path, ...], dict[str, str]]:
        """The golden images of a part, one a light.

        Args:
            same: where its own golden is, relative to the folder without light and suffix; the first that is there.
            words: what the rules look for: ``file``, ``object_name`` and, where known, ``part_type``.
            origin: how messages call the part.

        Returns:
            The files, and for a rule's choice the column ``golden_source``, so that each use is listed.

        Raises:
            HardStop: no golden, or several for ``file``.
        """
        for key in same:
            if key in self._files:
                return self._paths(key), {}
        word = words.get(self._rule or "file", "")
        found = self._by_word.get(word, []) if word else []
        if not self._rule or not found or (self._rule == "file" and len(found) > 1):
            raise self._stop(found, same, words, origin)
        self._used.append((origin, found[0], len(found)))
        return self._paths(found[0]), {"golden_source": self._files[found[0]][0]}

    def _paths(self, key: str) -> tuple[Path, ...]:
        return tuple(resolve_under(self._root, file) for file in self._files[key])

    def _stop(self, found: Sequence[str], same: Sequence[str], words: Mapping[str, str], origin: str) -> HardStop:
        if self._rule == "part_type" and not words.get("part_type"):
            return HardStop(
                f"{origin}: no part type, which --golden-by part_type looks for",
                expected="a part type for every part",
                found="none",
                hint="--pattern with {part_type}, or --map part_type=COLUMN",
            )
        where = f"{quoted(same[0], 160)} below the golden folder" if same else "a golden image"
        by_rule = f", or one of {self._rule} {quoted(words.get(self._rule, ''), 80)}" if self._rule else ""
        return HardStop(
            f"{origin}: {'several golden images' if len(found) > 1 else 'no golden image'}",
            expected=where + (by_rule or ", or a rule, --golden-by"),
            found=", ".join(quoted(key, 100) for key in found[:5]) or "none",
            hint="name the golden image like the test image"
            + ("; --golden-by file takes the one of that file name, wherever it is" if found and not self._rule else ""),
        )

    def notes(self) -> list[str]:
        """How often the rule chose, with examples; all of them are in the CSVs' column ``golden_source``."""
        if not self._used:
            return []
        several = sum(count > 1 for _, _, count in self._used)
        shown = "; ".join(f"{origin} with {quoted(key, 80)}" for origin, key, _ in self._used[:LISTED])
        return [
            f"--golden-by {self._rule} found {len(self._used)} goldens (column golden_source)"
            + (f", {several} of them the first by name of several" if several else "")
            + f": {shown}"
        ]
