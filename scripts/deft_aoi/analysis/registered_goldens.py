"""Registered goldens on disk: measured once a content, written where a golden moves, found again by what decides them.

One mechanism for every engine and platform: a golden that moves becomes a file of its own in a folder of its row, a derived
CSV names that folder, and whoever reads the CSV reads pictures as ever. The file has the name that the set's layout asks
for and holds exactly the moved pixels: PNG under every name that TAO decodes by content, TIFF or lossless WebP under theirs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deft_aoi.analysis.identity import image_paths
from deft_aoi.analysis.registration import (
    BATCH,
    LARGE_STRIP,
    METHOD,
    PENALTY,
    STRIP_SPOT,
    Registration,
    Shift,
    estimate_shifts,
    fit_golden,
    move_golden,
    reference_score,
    strip_pixels,
)
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_bytes, digest_json, read_json, sha256_bytes, sha256_file
from deft_aoi.contract.images import OWN_EXTENSION, open_image
from deft_aoi.contract.paths import resolve_under

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from deft_aoi.contract.changenet_csv import ImageLayout

    Pixels = NDArray[np.uint8]

FILES = "registered.json"
"""Beside a row's goldens: their SHA-256, so that a file that was changed or half written is made again."""

SHIFT_COLUMNS = (
    "dy",
    "dx",
    "cost_before",
    "cost_after",
    "at_limit",
    "strip_fraction",
    "rule_raw",
    "rule_registered",
    "strip_pixels",
)


@dataclass(frozen=True)
class Preprocessing:
    """How the goldens of a run are registered: what decides the pixels, no measured number.

    Attributes:
        width: of the network's picture of one light, at which shifts are estimated.
        height: the same.
        limit: largest shift in pixels of that picture; ``None`` for the radius by size.
        penalty: grey levels for each pixel of shift in a crop of 64 pixels.
    """

    width: int
    height: int
    limit: int | None = None
    penalty: float = PENALTY

    @classmethod
    def read(cls, body: dict[str, Any]) -> Preprocessing:
        """From a plan or ``best_model.json``.

        Raises:
            HardStop: made by another method than this version knows.
        """
        if body.get("method") != METHOD:
            raise HardStop(
                "the goldens were registered by a method that this version does not know",
                expected=METHOD,
                found=str(body.get("method"))[:60],
                hint="use the version that made the model",
            )
        return cls(int(body["width"]), int(body["height"]), body["limit_px"], float(body["penalty"]))

    def as_dict(self) -> dict[str, Any]:
        """For plans, records, cache keys."""
        return {
            "method": METHOD,
            "width": self.width,
            "height": self.height,
            "limit_px": self.limit,
            "penalty": self.penalty,
        }

    @property
    def digest(self) -> str:
        """Short: enters folder names."""
        return digest_json(self.as_dict())[:16]


@dataclass(frozen=True)
class Pair:
    """The files of one row: each light's test and golden, and what their pixels are."""

    content_id: str
    tests: tuple[str, ...]
    goldens: tuple[str, ...]


class Measured(NamedTuple):
    """A row's shift in pixels of the network's picture, the rule without training before and after, what the strip may hide."""

    shift: Shift
    rule_raw: float
    rule_registered: float
    strip_pixels: int = 0

    @property
    def needs_a_person(self) -> bool:
        """The true shift may be larger, or much of the crop is not compared."""
        return self.shift.at_limit or self.shift.strip_fraction > LARGE_STRIP

    @property
    def spot_in_strip(self) -> bool:
        """The strip that is not compared may hold a defect, or a part of one."""
        return self.strip_pixels >= STRIP_SPOT


def pairs_of(frame: pd.DataFrame, layout: ImageLayout, ids: pd.DataFrame) -> list[Pair]:
    """The files of every row.

    Args:
        frame: N ChangeNet rows.
        layout: how they name images.
        ids: (N,) identities with ``content_id``.
    """
    columns = list(zip(*image_paths(frame, layout), strict=True))
    lights = len(layout.lights)
    return [Pair(c, row[:lights], row[lights:]) for c, row in zip(ids["content_id"], columns, strict=True)]


class ShiftCache:
    """What is known of contents under one preprocessing: one file, replaced as a whole, safe to delete.

    The digest in its first line is for damage: a file that does not match it is measured again.
    """

    def __init__(self, folder: Path, how: Preprocessing) -> None:
        self._how = how
        self._path = folder / f"shifts-{how.digest}.csv"
        self._known = self._read()

    def measure(self, pairs: Sequence[Pair]) -> list[Measured]:
        """Measure what is not known yet, and remember it."""
        missing = list({p.content_id: p for p in pairs if p.content_id not in self._known}.values())
        if missing:
            for pair, measured in zip(missing, _measure(missing, self._how), strict=True):
                self._known[pair.content_id] = measured
            self._save()
        return [self._known[p.content_id] for p in pairs]

    def _read(self) -> dict[str, Measured]:
        try:
            head, _, body = self._path.read_text(encoding="ascii").partition("\n")
        except (OSError, UnicodeDecodeError):
            return {}
        if head != sha256_bytes(body.encode("ascii")):
            return {}
        try:
            return dict(_parse(line) for line in body.splitlines())
        except ValueError:
            return {}  # of another version

    def _save(self) -> None:
        lines = [",".join([content, *map(repr, (*m.shift, *m[1:]))]) for content, m in self._known.items()]
        body = "".join(f"{line}\n" for line in lines)
        with contextlib.suppress(OSError):  # a folder that cannot be written costs the cache, not the result
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(self._path, f"{sha256_bytes(body.encode('ascii'))}\n{body}".encode("ascii"))


def _parse(line: str) -> tuple[str, Measured]:
    content, dy, dx, before, after, at_limit, strip, raw, registered, pixels = line.split(",")
    shift = Shift(int(dy), int(dx), float(before), float(after), at_limit == "True", float(strip))
    return content, Measured(shift, float(raw), float(registered), int(pixels))


def _measure(pairs: Sequence[Pair], how: Preprocessing) -> Iterator[Measured]:
    registration = Registration(how.limit, how.penalty)
    for start in range(0, len(pairs), BATCH):
        batch = [at_network_size(p, how) for p in pairs[start : start + BATCH]]
        means = [(mean_of_lights(tests), mean_of_lights(goldens)) for tests, goldens in batch]
        shifts = estimate_shifts(means, registration)
        for (tests, goldens), mean, shift in zip(batch, means, shifts, strict=True):
            raw = max(map(reference_score, tests, goldens))
            moved = [move_golden(t, g, shift.dy, shift.dx) for t, g in zip(tests, goldens, strict=True)]
            after = max(map(reference_score, tests, moved)) if shift.moved else raw
            yield Measured(shift, raw, after, strip_pixels(*mean, shift.dy, shift.dx) if shift.moved else 0)


def at_network_size(pair: Pair, how: Preprocessing) -> tuple[list[Pixels], list[Pixels]]:
    """Test and golden of each light as the network sees them, each (height, width, 3) uint8."""
    import numpy as np
    from PIL import Image

    def resized(pixels: Pixels) -> Pixels:
        if pixels.shape[:2] == (how.height, how.width):
            return pixels
        return np.asarray(Image.fromarray(pixels).resize((how.width, how.height), Image.Resampling.BILINEAR))

    tests = [_pixels(path) for path in pair.tests]
    goldens = [fit_golden(test, _pixels(path)) for test, path in zip(tests, pair.goldens, strict=True)]
    return [resized(t) for t in tests], [resized(g) for g in goldens]


def _pixels(path: str) -> Pixels:
    import numpy as np

    return np.asarray(open_image(path))


def mean_of_lights(lights: Sequence[Pixels]) -> Pixels:
    """One picture of all lights, so that they share one shift."""
    import numpy as np

    if len(lights) == 1:
        return lights[0]
    mean: Pixels = np.asarray(np.stack(lights).mean(axis=0).round(), dtype=np.uint8)
    return mean


def place(pairs: Sequence[Pair], measured: Sequence[Measured], how: Preprocessing, root: Path) -> list[str]:
    """Put every golden that moves below ``root``; what is there already and whole is left.

    Args:
        pairs: N rows.
        measured: (N,) of :meth:`ShiftCache.measure`.
        how: the preprocessing that they were measured with.
        root: folder of registered goldens, made when needed.

    Returns:
        The folder of each row's goldens, absolute: one below ``root``, or its own where the golden stays.
    """
    folders = []
    for pair, found in zip(pairs, measured, strict=True):
        if not found.shift.moved:
            folders.append(os.path.dirname(pair.goldens[0]))  # noqa: PTH120
            continue
        names = [os.path.basename(path) for path in pair.goldens]  # noqa: PTH119
        key = hashlib.sha256("\0".join((pair.content_id, *names)).encode()).hexdigest()[:32]
        folder = resolve_under(root, how.digest, key[:2], key)
        if not _is_whole(folder, names):
            _write(pair, names, found.shift, how, folder)
        folders.append(str(folder))
    return folders


def register_rows(
    frame: pd.DataFrame, layout: ImageLayout, ids: pd.DataFrame, how: Preprocessing, *, root: Path, cache: Path
) -> tuple[pd.DataFrame, list[Measured]]:
    """The rows with ``golden_path`` naming registered goldens, absolute, and what was measured of each.

    Args:
        frame: N ChangeNet rows.
        layout: how they name images.
        ids: (N,) identities with ``content_id``.
        how: the preprocessing.
        root: folder of registered goldens.
        cache: folder of the shifts that are known.
    """
    pairs = pairs_of(frame, layout, ids)
    measured = ShiftCache(cache, how).measure(pairs)
    return frame.assign(golden_path=place(pairs, measured, how, root)), measured


def shift_table(frame: pd.DataFrame, ids: pd.DataFrame, measured: Sequence[Measured]) -> pd.DataFrame:
    """A row's key, label, content and :data:`SHIFT_COLUMNS` as text."""
    names = [c for c in ("input_path", "golden_path", "object_name", "label") if c in frame.columns]
    table = frame[names].assign(content_id=ids["content_id"].to_numpy())
    for at, column in enumerate(SHIFT_COLUMNS):
        table[column] = [repr((*m.shift, *m[1:])[at]) for m in measured]
    return table


def _is_whole(folder: Path, names: Sequence[str]) -> bool:
    try:
        listed = read_json(folder / FILES, what="registered goldens")
        return all(sha256_file(folder / name) == listed[name] for name in names)
    except (OSError, HardStop, KeyError, TypeError):
        return False


def _write(pair: Pair, names: Sequence[str], shift: Shift, how: Preprocessing, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for test_path, golden_path, name in zip(pair.tests, pair.goldens, names, strict=True):
        test = _pixels(test_path)
        golden = fit_golden(test, _pixels(golden_path))
        height, width = test.shape[:2]
        dy, dx = round(shift.dy * height / how.height), round(shift.dx * width / how.width)
        data = encode(move_golden(test, golden, dy, dx), name)
        _replace(folder / name, data)
        digests[name] = sha256_bytes(data)
    import json

    _replace(folder / FILES, json.dumps(digests, sort_keys=True).encode())


def encode(pixels: Pixels, name: str) -> bytes:
    """The pixels exactly, as a file that is decoded under this name."""
    from PIL import Image

    sink, kind = io.BytesIO(), OWN_EXTENSION.get(os.path.splitext(name)[1].lower(), "PNG")  # noqa: PTH122
    options: dict[str, Any] = {}
    if kind == "WEBP":
        options = {"lossless": True, "exact": True}
    elif kind == "PNG":
        options = {"compress_level": 1}
    Image.fromarray(pixels).save(sink, format=kind, **options)
    return sink.getvalue()


def _replace(path: Path, data: bytes) -> None:
    """Atomic for readers, without waiting for the disk: what a power cut leaves is found by its digest and made again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
