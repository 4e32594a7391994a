"""What registration, mining and threshold rules do on boards that took no part: arms × seeds, through the product itself.

    python benchmarks/outcome_study.py --workspace DEEPPCB/workspace --output SCRATCH --seeds 1 2 3 4 5 6 7 8

Every run is ``run_loop.py`` on its own copy of the workspace, checked with ``verify_run.py``; of each the result and the
scores of KPI set and hold-out stay in ``--output``, and a run whose result is there is not run again. ``--arms`` chooses,
``--collect`` only makes the tables. The first arm is the one that the others are compared with (sign test over seeds).
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

ARMS = {
    "registered": ["--registration", "auto"],
    "raw": ["--registration", "off"],
    "both": ["--registration", "auto", "--mining", "both"],
    "hard": ["--registration", "auto", "--mining", "hard"],
    # The whole pool joins the training set, so the baseline is trained on every row and nothing is left to mine.
    "all": ["--registration", "auto"],
    "all-raw": ["--registration", "off"],
}
RECALLS = (1.0, 0.99, 0.98)
NOISES = ("uniform", "borderline", "board")


def spoil(workspace: Path, percent: float, kind: str, seed: int) -> None:
    """Turn this share of the pool's real labels over: anywhere, where the untrained rule is least sure, or board by board."""
    import numpy as np
    import pandas as pd

    from deft_aoi.analysis.registered_goldens import pairs_of
    from deft_aoi.analysis.registration import reference_score
    from deft_aoi.contract import spec as specs
    from deft_aoi.contract.images import open_image
    from deft_aoi.contract.text import is_pass

    path = workspace / "augmentation" / "mining_pool" / "mining_pool.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    good, rng = frame["label"].map(is_pass).to_numpy(bool), np.random.default_rng(seed)
    order = rng.permutation(len(frame))
    if kind == "board":
        boards = frame["boardname"].to_numpy()
        place = {b: i for i, b in enumerate(rng.permutation(np.unique(boards)))}
        order = order[np.argsort([place[b] for b in boards[order]], kind="stable")]
    elif kind == "borderline":
        layout = specs.layout(specs.load_spec(workspace / "specs" / "baseline_spec.yaml"), path.parent)
        pairs = pairs_of(frame, layout, pd.DataFrame({"content_id": frame["object_name"]}))
        score = np.array([reference_score(*(np.asarray(open_image(f[0])) for f in (p.tests, p.goldens))) for p in pairs])
        order = np.argsort(np.where(good, -score, score), kind="stable")  # the worst good parts and the faintest defects
        halves = [order[good[order]], order[~good[order]]]
        order = np.array([i for pair in zip(*halves, strict=False) for i in pair])
    flip = order[: round(percent / 100 * len(frame))]
    defects = frame["label"][~good].unique()
    frame.loc[flip, "label"] = [rng.choice(defects) if good[i] else "PASS" for i in flip]
    frame.to_csv(path, index=False)


def train_on_all(workspace: Path) -> None:
    """Append the pool's rows to the base training set, their images beside its images."""
    import pandas as pd

    pool = workspace / "augmentation" / "mining_pool"
    shutil.copytree(pool / "images", workspace / "kpi" / "images", dirs_exist_ok=True, copy_function=shutil.copyfile)
    path = workspace / "train" / "base" / "training_set.csv"
    base, rows = (pd.read_csv(p, dtype=str, keep_default_na=False) for p in (path, pool / "mining_pool.csv"))
    for column in ("input_path", "golden_path"):
        rows[column] = rows[column].str.removeprefix("images/")
    pd.concat([base, rows[base.columns]]).to_csv(path, index=False)


def run_once(args: argparse.Namespace, arm: str, seed: int) -> None:
    """One loop; its result is written last, so a killed one is repeated."""
    folder = args.output / arm / f"seed{seed}"
    if (folder / "result.json").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    workspace = folder / "workspace"
    shutil.copytree(args.workspace, workspace, copy_function=shutil.copyfile)
    if args.spec:
        shutil.copyfile(args.spec, workspace / "specs" / "baseline_spec.yaml")
    if args.wrong_labels:
        spoil(workspace, args.wrong_labels, args.wrong_where, seed)
    if arm.startswith("all"):
        train_on_all(workspace)
    options = ["--workspace", str(workspace), "--kpi-target", args.target, "--seed", str(seed), "--yes"]
    options += ["--allow-near-duplicates", "--max-iterations", str(args.iterations), *ARMS[arm], *shlex.split(args.loop_options)]
    began = time.monotonic()
    with (folder / "loop.log").open("wb") as log:
        subprocess.run([sys.executable, str(SCRIPTS / "run_loop.py"), *options], check=True, stdout=log, stderr=log)
    seconds = time.monotonic() - began
    run = sorted((workspace / "results").glob("run_*"))[-1]
    verified = subprocess.run([sys.executable, str(SCRIPTS / "verify_run.py"), "--results-dir", str(run)], capture_output=True)
    result = collect(run) | {"seconds": round(seconds, 1), "verified": verified.returncode == 0}
    for path in run.rglob("inference.csv"):
        kept = folder / "scores" / path.relative_to(run)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
    shutil.copyfile(run / "best_model.json", folder / "best_model.json")
    shutil.rmtree(workspace)
    (folder / "result.json").write_text(json.dumps(result, indent=1))


def collect(run: Path) -> dict:
    """The figures of one finished run."""
    state = json.loads((run / "deft_state.json").read_text())
    best = json.loads((run / "best_model.json").read_text())
    iterations = {k: v for k, v in state["iterations"].items() if "far_fraction" in v}
    return {
        "kpi_far": {label: it["far_fraction"] for label, it in iterations.items()},
        "rows_mined": sum(it.get("mined_real", 0) + it.get("mined_sdg", 0) for it in state["iterations"].values()),
        "handed_over": best["iteration"],
        "threshold": best["threshold"],
        "holdout": {k: best["holdout"][k] for k in ("far_fraction", "recall_fraction")},
        "handed": curve(run / "run" / "holdout" / "inference.csv"),
        "baseline": curve(run / "run" / "holdout" / "baseline" / "inference.csv")
        if (run / "run" / "holdout" / "baseline" / "inference.csv").is_file()
        else curve(run / "run" / "holdout" / "inference.csv"),
    }


def curve(scores: Path) -> dict:
    """AUROC and the FAR at each recall, over rows."""
    import numpy as np
    import pandas as pd

    from deft_aoi.contract.text import is_pass

    frame = pd.read_csv(scores, dtype={"label": str}, keep_default_na=False)
    score, good = frame["siamese_score"].to_numpy(float), frame["label"].map(is_pass).to_numpy(bool)
    defects, parts = np.sort(score[~good])[::-1], score[good]
    ranks = pd.Series(score).rank().to_numpy()
    auroc = (ranks[~good].sum() - len(defects) * (len(defects) + 1) / 2) / (len(defects) * len(parts))
    fars = {f"{r:g}": float((parts >= defects[int(np.ceil(r * len(defects))) - 1]).mean()) for r in RECALLS}
    return {"auroc": float(auroc), "far_at_recall": fars}


def sign_test(ours: list[float], theirs: list[float]) -> str:
    """Seeds in which ours is lower, higher, and the two-sided p-value of that split (ties left out)."""
    from scipy.stats import binomtest

    lower, higher = (sum(a < b for a, b in zip(x, y, strict=True)) for x, y in ((ours, theirs), (theirs, ours)))
    if not lower + higher:
        return "all equal"
    return f"{lower} : {higher}, p {binomtest(lower, lower + higher).pvalue:.3f}"


def tables(output: Path, arms: list[str], seeds: list[int]) -> str:
    found = {
        arm: [json.loads(p.read_text()) for s in seeds if (p := output / arm / f"seed{s}" / "result.json").is_file()]
        for arm in arms
    }
    lines = [
        "| arm | seeds | hold-out FAR at recall 100 %, mean / worst | at 99 % | at 98 % | AUROC | at the threshold: "
        "FAR, recall | KPI FAR at recall 100 %, worst after an iteration | rows mined | s a run | verify_run |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    first = found[arms[0]]
    for arm, rows in found.items():
        for which in ("baseline", "handed"):
            if not rows:
                continue
            far = {r: [x[which]["far_at_recall"][r] for x in rows] for r in map("{:g}".format, RECALLS)}
            cells = [f"{100 * sum(v) / len(v):.2f} / {100 * max(v):.2f}" for v in far.values()]
            auroc = sum(x[which]["auroc"] for x in rows) / len(rows)
            thr = "–"
            if which == "handed":
                thr = ", ".join(
                    f"{100 * sum(x['holdout'][k] for x in rows) / len(rows):.2f}" for k in ("far_fraction", "recall_fraction")
                )
            worst = max(v for x in rows for v in (list(x["kpi_far"].values())[1:] or x["kpi_far"].values()))
            seconds = sum(x["seconds"] for x in rows) / len(rows)
            lines.append(
                f"| {arm}, {which} | {len(rows)} | {' | '.join(cells)} | {auroc:.4f} | {thr} | {100 * worst:.2f} | "
                f"{sum(x['rows_mined'] for x in rows) / len(rows):.0f} | {seconds:.0f} | "
                f"{'holds' if all(x['verified'] for x in rows) else 'DOES NOT HOLD'} |"
            )
    lines.append("")
    for arm in arms[1:]:
        if len(found[arm]) == len(first):
            for r in map("{:g}".format, RECALLS):
                ours, theirs = ([x["handed"]["far_at_recall"][r] for x in rows] for rows in (first, found[arm]))
                lines.append(f"{arms[0]} against {arm}, hold-out FAR at recall {100 * float(r):g} %: {sign_test(ours, theirs)}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, help="a workspace with a hold-out; never written to")
    parser.add_argument("--output", type=Path, required=True, help="scratch folder: results and scores of every run")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 9)))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["registered", "raw"])
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--target", default="FAR < 0.1% at recall=100%")
    parser.add_argument("--wrong-labels", type=float, default=0.0, metavar="PERCENT", help="of the pool's real rows, turned over")
    parser.add_argument("--wrong-where", choices=NOISES, default="uniform")
    parser.add_argument("--spec", type=Path, help="take this spec in place of the workspace's own")
    parser.add_argument(
        "--loop-options", default="", metavar="TEXT", help='more for run_loop.py: "--engine tao --encoder pixels"'
    )
    parser.add_argument("--collect", action="store_true", help="only make the tables of what is there")
    args = parser.parse_args(argv)
    if not args.collect:
        for seed in args.seeds:
            for arm in args.arms:
                run_once(args, arm, seed)
    print(tables(args.output, args.arms, args.seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
