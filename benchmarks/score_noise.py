"""How far one part's score moves between batch sizes and numbers of threads: the measure behind ``SCORE_NOISE``.

    python benchmarks/score_noise.py RESULTS_DIR --label iter1 --output SCRATCH

Scores the run's KPI set with the checkpoint that it evaluated, by the engine's own command, once for each setting.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import numpy as np

from deft_aoi.analysis.constants import SCORE_NOISE
from deft_aoi.analysis.score_table import read_scores


def scored(args: argparse.Namespace, checkpoint: Path, batch: int, threads: int) -> np.ndarray:
    """Scores of the KPI set, in the order of its rows."""
    out = args.output / f"batch{batch}-threads{threads}"
    out.mkdir(parents=True, exist_ok=True)
    words = ["visual_changenet", "inference", "-e", str(args.run / "run" / "specs" / f"{args.label}-inference.yaml")]
    words += [f"inference.results_dir={out}", f"inference.checkpoint={checkpoint}", f"dataset.classify.batch_size={batch}"]
    env = {**os.environ, "PYTHONPATH": sys.path[0], **{f"{n}_NUM_THREADS": str(threads) for n in ("OMP", "MKL", "OPENBLAS")}}
    subprocess.run([sys.executable, "-m", "deft_aoi.engines.embedded", *words], check=True, env=env, stdout=subprocess.DEVNULL)
    return read_scores(out / "inference.csv")["siamese_score"].to_numpy(float)


def log_odds(scores: np.ndarray) -> np.ndarray:
    """Of scores that are probabilities."""
    inside = np.clip(scores, 1e-12, 1 - 1e-7)
    return np.log(inside / (1 - inside))


def main() -> None:
    """Every setting against the first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--label", default="baseline")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    args = parser.parse_args()
    it = json.loads((args.run / "deft_state.json").read_text())["iterations"][args.label]
    checkpoint = args.run / it["best_ckpt_path"]
    settings = list(product(args.batch, args.threads))
    first, largest = scored(args, checkpoint, *settings[0]), 0.0
    print(f"{len(first)} rows; batch {settings[0][0]}, {settings[0][1]} thread(s) against:")
    for batch, threads in settings[1:]:
        again = scored(args, checkpoint, batch, threads)
        moved, odds = np.abs(again - first), np.abs(log_odds(again) - log_odds(first))
        largest = max(largest, float(odds.max()))
        print(f"  batch {batch:>3}, {threads} thread(s): largest {moved.max():.3g}, in log-odds {odds.max():.3g}", flush=True)
    print(f"largest in log-odds {largest:.3g}: {largest / 4:.3g} at a score of one half; SCORE_NOISE is {SCORE_NOISE:g}")


if __name__ == "__main__":
    main()
