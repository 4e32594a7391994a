"""Goldens that do not show their part as the test does: moved, turned, mirrored, scaled, of another exposure or size.

Good parts of the training and validation sets are compared with their goldens at the network's size, a content once and at
most :data:`SAMPLE` of them. A golden is called turned or scaled where, so changed back and moved to its best place, it is
nearer to the test by :data:`GAIN` of the difference than the golden that is only moved; exposures are made equal before that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deft_aoi.analysis.identity import Part
from deft_aoi.analysis.registered_goldens import Pair, Preprocessing, at_network_size, mean_of_lights, pairs_of
from deft_aoi.analysis.registration import Registration, Shift, estimate_shifts
from deft_aoi.contract import spec as specs
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.text import PASS, quoted
from deft_aoi.mining.settings import DISPLACED_PX, DISPLACED_SHARE
from deft_aoi.workspaces.check_findings import NOTE, WARNING, Finding, lines_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

SAMPLE = 120
SHARE = 0.2
"""So many of the good parts must be off for a warning: single ones are listed where the goldens are registered."""
GAIN = 0.3
DIFFERENT = 4.0
"""Mean grey difference below which a pair agrees, whatever else would fit better."""
EXPOSURE = 1.25
"""Factor of mean grey between test and golden: a network sees more than that as another picture."""
QUARTERS = {"turned by 90°": "ROTATE_90", "turned by 180°": "ROTATE_180", "turned by 270°": "ROTATE_270"}
MIRRORS = {"mirrored left to right": "FLIP_LEFT_RIGHT", "mirrored top to bottom": "FLIP_TOP_BOTTOM"}
ANGLES, FACTORS = (-6, -3, -1.5, 1.5, 3, 6), (0.9, 0.95, 1.05, 1.1)


def check_goldens(workspace: Workspace, parts: dict[str, Part], spec: specs.Spec | None, found: list[Finding]) -> None:
    """Add a warning for each way in which goldens are off, with numbers and three pairs to look at."""
    if spec is None or specs.has_several_goldens(spec):
        return
    files = {"train": workspace.training_csv, "validation": workspace.validation_csv}
    rows = [row for name in files if name in parts for row in _good_pairs(name, parts[name])]
    rows = rows[:: max(1, -(-len(rows) // SAMPLE))]
    if not rows:
        return
    how = Preprocessing(*specs.network_size(spec))
    shown = [[mean_of_lights(side) for side in at_network_size(pair, how)] for _, _, pair in rows]
    tests, goldens = [test for test, _ in shown], [golden for _, golden in shown]
    gains = [(float(t.mean()) + 1) / (float(g.mean()) + 1) for t, g in zip(tests, goldens, strict=True)]
    levelled = [_exposed(g, gain) for g, gain in zip(goldens, gains, strict=True)]
    shifts = estimate_shifts(zip(tests, levelled, strict=True), Registration())
    side = min(how.width, how.height)
    far = [max(abs(s.dy), abs(s.dx)) * 64 / side for s in shifts]

    def add(rule: str, at: list[int], message: str, fix: str, *, share: float = SHARE) -> None:
        if len(at) < max(1, share * len(rows)):
            return
        name, part = rows[at[0]][0], parts[rows[at[0]][0]]
        mine = [rows[i][1] for i in at if rows[i][0] == name]
        pairs = "; ".join(
            f"{quoted(workspace.rel(p.tests[0]), 90)} with {quoted(workspace.rel(p.goldens[0]), 90)}"
            for p in (rows[i][2] for i in at[:3])
        )
        text = f"{len(at)} of {len(rows)} good parts looked at {message}: {pairs}"
        lines = lines_of([int(part.frame.index[i]) for i in mine], part.frame)
        level = NOTE if len(at) < SHARE * len(rows) else WARNING
        found.append(Finding(level, rule, workspace.rel(files[name]), text, fix, lines))

    poses = _poses(tests, levelled, shifts)
    for pose in sorted({p[0] for p in poses if p}):
        at = [i for i, p in enumerate(poses) if p and p[0] == pose]
        mine = [p for p in poses if p and p[0] == pose]
        before, after = _median([p[1] for p in mine]), _median([p[2] for p in mine])
        message = f"have a golden that fits better {pose} ({before:.0f} grey levels of difference become {after:.0f})"
        add(
            "golden_pose", at, message, "export the goldens in the tests' own orientation and scale; registration only moves them"
        )
    moved = [i for i, px in enumerate(far) if px >= DISPLACED_PX and not poses[i]]
    limit = sum(shifts[i].at_limit for i in moved)
    message = (
        f"have a golden that lies off by {_median([far[i] for i in moved]):.1f} px (median, crop of 64; {limit} at the limit)"
    )
    add(
        "golden_moved",
        moved,
        message,
        "--registration auto moves goldens where that earns its place (docs/registration.md)",
        share=DISPLACED_SHARE,
    )
    dark = [i for i, gain in enumerate(gains) if max(gain, 1 / gain) > EXPOSURE]
    message = f"are {_median([gains[i] for i in dark]):.2g} times as bright as their golden (median)"
    add("golden_exposure", dark, message, "take goldens under the tests' light and exposure; nothing here evens that out")
    other = [i for i, (_, _, pair) in enumerate(rows) if _size(pair.tests[0]) != _size(pair.goldens[0])]
    if other:
        sizes = " and ".join("x".join(map(str, _size(p))) for p in (rows[other[0]][2].tests[0], rows[other[0]][2].goldens[0]))
        fix = "crop both alike; a golden is resized to its test, which blurs and, where the shapes differ, distorts it"
        add("golden_size", other, f"have a golden of another size (test and golden {sizes})", fix, share=0)


def _good_pairs(name: str, part: Part) -> Iterator[tuple[str, int, Pair]]:
    """``(set, row, files)`` of each distinct good part that shows anything."""
    seen: set[str] = set()
    flat = part.ids["featureless"].to_numpy(bool)
    for at, (pair, label) in enumerate(zip(pairs_of(part.frame, part.layout, part.ids), part.frame["label"], strict=True)):
        if label == PASS and not flat[at] and pair.content_id not in seen:
            seen.add(pair.content_id)
            yield name, at, pair


def _poses(tests: list[Pixels], goldens: list[Pixels], shifts: list[Shift]) -> list[tuple[str, float, float] | None]:
    """The change that brings each golden clearly nearer, with the difference before and after; ``None`` for none."""
    best: list[tuple[str, float, float] | None] = [None] * len(tests)
    doubtful = [i for i, s in enumerate(shifts) if s.cost_after > DIFFERENT]
    candidates: tuple[str | float, ...] = (*QUARTERS, *MIRRORS, *ANGLES, *FACTORS)
    for pose in candidates:
        changed = [_changed(goldens[i], pose) for i in doubtful]
        again = estimate_shifts(zip([tests[i] for i in doubtful], changed, strict=True), Registration())
        for i, shift in zip(doubtful, again, strict=True):
            before, now = shifts[i].cost_after, best[i]
            if shift.cost_after < (1 - GAIN) * before and (now is None or shift.cost_after < now[2]):
                words = pose if isinstance(pose, str) else f"turned by about {abs(pose):g}°" if pose in ANGLES else "scaled"
                best[i] = (words, before, shift.cost_after)
    return best


def _changed(golden: Pixels, pose: str | float) -> Pixels:
    import numpy as np
    from PIL import Image

    image, size = Image.fromarray(golden), (golden.shape[1], golden.shape[0])
    if isinstance(pose, str):
        turned = image.transpose(Image.Transpose[{**QUARTERS, **MIRRORS}[pose]])
        return np.asarray(turned if turned.size == size else turned.resize(size, Image.Resampling.BILINEAR))
    if pose in ANGLES:
        return np.asarray(image.rotate(pose, Image.Resampling.BILINEAR))
    x, y = size[0] / 2, size[1] / 2
    numbers = (1 / pose, 0, x - x / pose, 0, 1 / pose, y - y / pose)
    return np.asarray(image.transform(size, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR))


def _exposed(golden: Pixels, gain: float) -> Pixels:
    import numpy as np

    out: Pixels = np.clip(golden * np.float32(gain), 0, 255).astype(np.uint8)
    return out


def _size(path: str) -> tuple[int, int]:
    from deft_aoi.contract.images import open_image

    return open_image(path).size


def _median(values: list[float]) -> float:
    import statistics

    return statistics.median(values) if values else 0.0
