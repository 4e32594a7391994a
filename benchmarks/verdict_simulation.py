"""Do the verdict's bounds hold on boards that took no part? Random splits by board of scored sets of real runs.

    python benchmarks/verdict_simulation.py SCORES/seed* --workspace DEEPPCB/workspace

Each folder is one model: every ``inference.csv`` named by ``--kpi`` and ``--holdout`` in it (as ``outcome_study.py`` keeps
them) is pooled. Half of the boards become the KPI set, judged as the product judges one; the others are the boards that
nobody had seen. Three questions, over all splits:

- holds: the rate of the unseen boards is inside the printed one-sided bound (they are a sample too, with an error of its own);
- refuted: even the unseen boards' own one-sided bound lies beyond the printed one, so the sentence was wrong;
- MET: the share of KPI sets that a confirming hold-out would make a plain MET, and how many of those the unseen boards refute.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import numpy as np
import pandas as pd

from deft_aoi.analysis import kpi
from deft_aoi.analysis.identity import ContentIndex
from deft_aoi.analysis.judging import JudgingRules
from deft_aoi.analysis.operating_point import parse_threshold_rule
from deft_aoi.analysis.score_table import read_scores
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.kpi_target import KpiTarget, parse_kpi_target
from deft_aoi.contract.paths import digest_cache_home


@dataclass(frozen=True)
class Split:
    """What one split showed."""

    far_holds: bool
    recall_holds: bool
    far_refuted: bool
    recall_refuted: bool
    inside: bool
    met: tuple[bool, ...]
    wrong: bool


def pooled(folder: Path, args: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The rows of one model and their identities by content."""
    frame = pd.concat([read_scores(folder / name) for name in (args.kpi, args.holdout)], ignore_index=True)
    if args.workspace is None:
        return frame, None
    layout = specs.layout(specs.load_spec(args.workspace / "specs" / "baseline_spec.yaml"), args.workspace / "kpi" / "images")
    return frame, ContentIndex(digest_cache_home()).digest_pairs(frame, layout, what=str(folder))


def one_split(
    frame: pd.DataFrame, ids: pd.DataFrame | None, seen: np.ndarray, target: KpiTarget, args: argparse.Namespace
) -> Split:
    """Judge the seen boards, then look at the others at the threshold that was handed over."""

    def part(mask: np.ndarray) -> dict:
        if ids is None:
            return {"frame": frame[mask]}
        return {"frame": frame[mask], "content_ids": ids["content_id"][mask], "featureless": ids["featureless"][mask]}

    rule = parse_threshold_rule(args.threshold_rule)
    report = kpi.analyze(**part(seen), target=target, rules=JudgingRules(rule))
    point = report["target_point"]
    fresh = kpi.apply_threshold(**part(~seen), threshold=point["threshold"], target=target, kpi_point=point)
    new, facts, size = fresh["point"], report["facts"], report["sample_size"]
    upper, lower = point["far_interval"][1], point["recall_interval"][0]
    good = facts["kpi"] and facts["far_supported"] and facts["cross_validated"]
    rates = ((point["far_fraction"], point["far_interval"]), (point["recall_fraction"], point["recall_interval"]))
    return Split(
        new["far_fraction"] <= upper,
        new["recall_fraction"] >= lower,
        new["far_interval"][0] > upper,
        new["recall_interval"][1] < lower,
        all(low <= rate <= high for rate, (low, high) in rates),
        tuple(good and size["recall_lower_fraction"] >= support / 100 for support in args.min_recall_support),
        fresh["says"] == "contradicts",
    )


def run(args: argparse.Namespace) -> None:
    """Every model, every target: one table row each."""
    supports = [f"MET at {s:g} %" for s in args.min_recall_support]
    head = [
        "target",
        "splits",
        "FAR bound holds",
        "recall bound holds",
        "FAR refuted",
        "recall refuted",
        *supports,
        "refuted METs",
    ]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    models = [pooled(folder, args) for folder in args.folders]
    for text in args.target:
        target, found = parse_kpi_target(text), []
        for number, (frame, ids) in enumerate(models):
            codes, boards = pd.factorize(frame["boardname"].astype(str))
            rng = np.random.default_rng(args.seed + number)
            for _ in range(-(-args.splits // len(models))):
                seen = rng.permutation(len(boards))[codes] < args.share * len(boards)
                try:
                    found.append(one_split(frame, ids, seen, target, args))
                except HardStop:  # a split that leaves one side without a class has no verdict
                    continue
        assert all(s.inside for s in found), "a rate lies outside its own interval"

        def share(values: list[bool]) -> str:
            return f"{100 * sum(values) / len(values):.1f} %"

        mets = [share([s.met[i] for s in found]) for i in range(len(args.min_recall_support))]
        wrong = [f"{sum(s.wrong for s in found if s.met[i])} of {sum(s.met[i] for s in found)}" for i in range(len(supports))]
        names = ("far_holds", "recall_holds", "far_refuted", "recall_refuted")
        cells = [share([getattr(s, name) for s in found]) for name in names]
        print(f"| {' | '.join([target.text, f'{len(found):,}', *cells, *mets, ', '.join(wrong)])} |", flush=True)


def main() -> None:
    """Arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="one folder of scores a model")
    parser.add_argument("--kpi", default="iter2/inference/best_val/inference.csv", help="scored KPI set in each folder")
    parser.add_argument("--holdout", default="run/holdout/inference.csv", help="scored hold-out of the same model")
    parser.add_argument("--workspace", type=Path, help="its pictures say which rows are one content")
    parser.add_argument("--target", nargs="+", default=["FAR < 2% at recall=100%", "FAR < 5% at recall=100%"])
    parser.add_argument("--threshold-rule", default="low_end")
    parser.add_argument("--min-recall-support", nargs="+", type=float, default=[99.0, 97.0], help="percent")
    parser.add_argument("--share", type=float, default=0.5, help="share of the boards that become the KPI set")
    parser.add_argument("--splits", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
