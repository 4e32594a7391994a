"""What registration costs, whether its radius and penalty hold at other sizes, and what it does to tight crops.

    python benchmarks/bench_registration.py [--parts 300] [--camera-error 2.5]

The same rendered parts (made by a line whose camera stops up to 2.5 standard deviations off) at 64, 128 and 224 px, with
goldens of half the size, and cut tight around the body, without pads. Milliseconds are of one core, pixels in memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from deft_aoi.analysis.registered_goldens import Measured  # noqa: E402
from deft_aoi.analysis.registration import estimate_shifts, fit_golden, move_golden, reference_score  # noqa: E402
from deft_aoi.analysis.registration_trial import trial  # noqa: E402
from deft_aoi.demo.board import sample_style  # noqa: E402
from deft_aoi.demo.lighting import LIGHTS  # noqa: E402
from deft_aoi.demo.parts import DEFECT_PACKAGES, PACKAGES  # noqa: E402
from deft_aoi.demo.scene import Shot, sample_build, sample_shot, sample_site, take  # noqa: E402

Pair = tuple[np.ndarray, np.ndarray]


def part(number: int, label: str, size: int, camera_error: float) -> tuple[Pair, np.ndarray, tuple[float, float]]:
    """``((test, golden), shift in world units, body in world units)``: the same part at every size."""
    site_rng, golden_rng, build_rng, shot_rng = (np.random.default_rng([5, number, i]) for i in range(4))
    packages = PACKAGES if label == "PASS" else DEFECT_PACKAGES[label]
    site = sample_site(site_rng, sample_style(np.random.default_rng(1), 0), packages[int(site_rng.integers(len(packages)))])
    light, shot = tuple(LIGHTS)[:1], sample_shot(shot_rng, camera_error)
    golden = take(site, sample_build(golden_rng), Shot(), light, size, np.random.default_rng([6, number]))[0]
    build = sample_build(build_rng, defect="" if label == "PASS" else label, severity=float(build_rng.uniform(0.15, 1)))
    test = take(site, build, shot, light, size, np.random.default_rng([7, number]))[0]
    body = site.design.size if site.design.turn in (0, 2) else site.design.size[::-1]
    return (np.asarray(test), np.asarray(golden)), np.array(shot.shift), body


def tight(pair: Pair, body: tuple[float, float]) -> Pair:
    """Both crops cut to the body, resized to a crop of 64."""
    side = pair[0].shape[0]
    half = [max(8.0, min(31.0, edge / 2)) * side / 64 for edge in body]
    box = (side / 2 - half[0], side / 2 - half[1], side / 2 + half[0], side / 2 + half[1])
    return tuple(  # type: ignore[return-value]
        np.asarray(Image.fromarray(p).resize((64, 64), Image.Resampling.BICUBIC, box=box)) for p in pair
    )


def measure(name: str, labels: list[str], pairs: list[Pair]) -> np.ndarray:
    """Print a row; returns the shifts in pixels of a crop of 64, (N, 2)."""
    fitted = [(test, fit_golden(test, golden)) for test, golden in pairs]
    start = time.process_time()
    shifts = estimate_shifts(fitted)
    took = 1000 * (time.process_time() - start) / len(pairs)
    found = [
        Measured(s, reference_score(t, g), reference_score(t, move_golden(t, g, s.dy, s.dx)))
        for s, (t, g) in zip(shifts, fitted, strict=True)
    ]
    judged = trial(labels, [str(i) for i in range(len(pairs))], found)
    side = pairs[0][0].shape[0]
    out = np.array([(s.dy, s.dx) for s in shifts]) * 64 / side
    moved_parts = [found[i] for i, label in enumerate(labels) if label == "shift"]
    raw, after = (
        sum(
            getattr(m, rule) > np.quantile([getattr(found[i], rule) for i in range(len(found)) if labels[i] == "PASS"], 0.95)
            for m in moved_parts
        )
        for rule in ("rule_raw", "rule_registered")
    )
    limit = np.mean([s.at_limit for s in shifts])
    lost = "; ".join(f"{label} {raw} -> {after} of {n}" for label, (n, raw, after) in judged.lost.items()) or "none"
    print(
        f"{name:<28} {took:6.2f} ms  moved {100 * (np.abs(out).max(1) > 0).mean():3.0f}%  at limit {100 * limit:4.1f}%  AUROC "
        f"{judged.auroc_raw:.3f} -> {judged.auroc_registered:.3f}  auto {'on' if judged.earned else 'off'}  lost: {lost}; "
        f"shift {raw} -> {after} of {len(moved_parts)}"
    )
    return out


def main() -> None:
    """Print one row a set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", type=int, default=300, help="half sound, half defects of all kinds in turn")
    parser.add_argument("--camera-error", type=float, default=2.5, help="standard deviation, pixels of a crop of 64")
    args = parser.parse_args()
    defects = list(DEFECT_PACKAGES)
    labels = ["PASS" if i % 2 else defects[i // 2 % len(defects)] for i in range(args.parts)]
    first = None
    for size in (64, 128, 224):
        drawn = [part(i, label, size, args.camera_error) for i, label in enumerate(labels)]
        pairs = [pair for pair, _, _ in drawn]
        found = measure(f"{size} px", labels, pairs)
        first = found if first is None else first
        apart = np.abs(found - first).max(1)
        print(f"    within 1 px (of 64) of the shift at 64 px: {100 * (apart <= 1).mean():.0f}%")
        if size == 128:
            smaller = [(t, np.asarray(Image.fromarray(g).resize((64, 64), Image.Resampling.BOX))) for t, g in pairs]
            again = measure("128 px, golden of 64", labels, smaller)
            print(f"    the same shift as with the golden of 128: {100 * (np.abs(again - found).max(1) < 1).mean():.0f}%")
            measure("tight around the body", labels, [tight(pair, body) for pair, _, body in drawn])


if __name__ == "__main__":
    main()
