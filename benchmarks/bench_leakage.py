"""What deciding leakage costs a pool: its identities, and its test images against a KPI set.

    python benchmarks/bench_leakage.py [--crops 100000] [--kpi 600]

Prints CPU seconds (children included) and the largest resident memory. The crops are different 64 x 64 JPEGs that share goldens.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_digests import write_crops  # noqa: E402


def cpu() -> float:
    """CPU seconds of this process and its children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def rows(root: Path, paths: list[str]) -> pd.DataFrame:
    """One row a crop; the golden of each is the crop of the same folder, so that names agree."""
    folders = [str(Path(p).parent.relative_to(root)) for p in paths]
    names = [Path(p).name.removesuffix("_White.jpg") for p in paths]
    return pd.DataFrame({"input_path": folders, "golden_path": folders, "label": "PASS", "object_name": names})


def main() -> None:
    """Print one line a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, default=100_000)
    parser.add_argument("--kpi", type=int, default=600)
    args = parser.parse_args()
    from deft_aoi.analysis.identity import ContentIndex
    from deft_aoi.contract.changenet_csv import ImageLayout

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        frame = rows(root, write_crops(root, args.crops + args.kpi))
        layout, index = ImageLayout(root, ("White",), ".jpg"), ContentIndex(root / "cache")
        begin = cpu()
        pool = index.part("pool", frame.iloc[: args.crops].reset_index(drop=True), layout)
        identified = cpu() - begin
        print(f"identities of {args.crops} rows: {identified:.1f} s")
        try:
            from deft_aoi.analysis.leakage import leaks_into
        except ImportError:  # an older state: nothing to compare with
            return
        kpi = index.part("KPI set", frame.iloc[args.crops :].reset_index(drop=True), layout)
        begin = cpu()
        found = leaks_into(pool, {"kpi": kpi})
        leaks = (found["leak"] != "").sum()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"against {args.kpi} KPI rows: {cpu() - begin:.1f} s, {leaks} leaks; at most {memory} MB")


if __name__ == "__main__":
    main()
