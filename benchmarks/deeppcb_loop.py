"""The whole loop on the DeepPCB workspace, one run a seed, and the table of what came out.

    python benchmarks/deeppcb_loop.py --workspace DEEPPCB/workspace --output SCRATCH --seeds 1 2 3

Each seed works on its own copy of the workspace, through ``run_loop.py`` as a user would start it, and is checked with
``verify_run.py``. With ``--collect`` nothing is run: the table is made from the runs that ``--output`` holds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
TARGET = "FAR < 1% at recall=100%"


def run_seed(source: Path, output: Path, seed: int) -> Path:
    workspace = output / f"seed{seed}"
    shutil.copytree(source, workspace, copy_function=shutil.copyfile)
    command = ["--workspace", str(workspace), "--kpi-target", TARGET, "--seed", str(seed), "--max-iterations", "3", "--yes"]
    subprocess.run([sys.executable, str(SCRIPTS / "run_loop.py"), *command], check=True, stdout=sys.stderr)
    return workspace


def collect(workspace: Path) -> dict:
    run = sorted((workspace / "results").glob("run_*"))[-1]
    verified = subprocess.run([sys.executable, str(SCRIPTS / "verify_run.py"), "--results-dir", str(run)], capture_output=True)
    state = json.loads((run / "deft_state.json").read_text())
    best = json.loads((run / "best_model.json").read_text())
    iterations = state["iterations"]
    real = sum(it.get("mined_real", 0) for it in iterations.values())
    return {
        "far": {label: it["far_fraction"] for label, it in iterations.items() if "far_fraction" in it},
        "best": best["iteration"],
        "holdout": best["holdout"],
        "mined_real": real,
        "mined_real_defects": sum(it.get("mined_real_defects", 0) for it in iterations.values()),
        "mined_sdg": sum(it.get("mined_sdg", 0) for it in iterations.values()),
        "status": state["status"],
        "verified": verified.returncode == 0,
    }


def table(rows: dict[int, dict]) -> str:
    lines = [
        "| seed | FAR at recall 100 %, baseline → iterations | handed over | hold-out FAR | hold-out recall | hold-out AUROC "
        "| real rows mined, defects among them | synthetic rows mined | ended | verify_run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for seed, r in rows.items():
        far = " → ".join(f"{100 * v:.2f} %" for v in r["far"].values())
        h, n = r["holdout"], r["mined_real"]
        share = f"{n}, {100 * r['mined_real_defects'] / n:.0f} %" if n else "0"
        lines.append(
            f"| {seed} | {far} | {r['best']}, {100 * r['far'][r['best']]:.2f} % | {100 * h['far_fraction']:.2f} % | "
            f"{100 * h['recall_fraction']:.1f} % | {h['auroc']:.4f} | {share} | {r['mined_sdg']} | {r['status']} | "
            f"{'holds' if r['verified'] else 'DOES NOT HOLD'} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, help="the DeepPCB workspace; never written to")
    parser.add_argument("--output", type=Path, required=True, help="scratch folder: one copy of the workspace a seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--collect", action="store_true", help="only make the table of finished runs")
    args = parser.parse_args(argv)
    rows = {}
    for seed in args.seeds:
        workspace = args.output / f"seed{seed}" if args.collect else run_seed(args.workspace, args.output, seed)
        rows[seed] = collect(workspace)
    print(table(rows))
    return 0 if all(r["verified"] for r in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
