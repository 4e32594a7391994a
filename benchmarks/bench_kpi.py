"""KPI of a large scored set against the cost of reading and sorting it: prints one ratio of CPU time (target: at most 2).

    python benchmarks/bench_kpi.py [--rows 1000000] [--repeat 9]

The reference is what nobody can avoid: ``pyarrow.csv.read_csv`` of the file and one sort of its scores. The KPI reads the
file, checks every row (finite scores, labels, samples that contradict themselves), sweeps, estimates, slices and writes
``kpi.json``, ``summary.txt``, ``threshold_metrics.csv`` and the misses; no plots. Both run in this process with one thread,
in turns, and are charged what the kernel counts (user + system), so that other work on the machine falls out as far as it
can: the ratio of the least times, and the median of the pairs' ratios. The peak memory is that of the KPI alone;
``--rows 10000000`` shows that it is bounded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", ARROW_NUM_THREADS="1")

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))


def write_rows(path: Path, rows: int, seed: int) -> None:
    """A scored CSV as TAO writes it: 5 % defects of six types, 500 parts a board, float32 scores."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    rng = np.random.default_rng(seed)
    kinds = np.array(["PASS", "open", "short", "copper", "spur", "pinhole", "mousebite"])
    label = np.where(rng.random(rows) < 0.95, 0, rng.integers(1, 7, rows))
    board = np.arange(rows) // 500
    score = np.clip(rng.normal(np.where(label == 0, 0.2, 0.7), 0.12), 0, 1).astype(np.float32)
    boards = np.char.add("B", board[::500].astype(str)).repeat(500)[:rows]
    table = pa.table(
        {
            "input_path": np.char.add("line1/", boards),
            "golden_path": np.full(rows, "golden/line1"),
            "label": kinds[label],
            "object_name": np.char.add("C", np.arange(rows).astype(str)),
            "boardname": boards,
            "part_type": np.array(["R0402", "C0603", "QFN32"])[rng.integers(0, 3, rows)],
            "siamese_score": score,
        }
    )
    pacsv.write_csv(table, path)


def cpu_seconds(work: Callable[[], object]) -> float:
    """User and system time of one run, all threads."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=9)
    args = parser.parse_args(argv)
    import pyarrow as pa
    import pyarrow.csv as pacsv

    from deft_aoi.analysis import kpi_output
    from deft_aoi.analysis.score_table import read_scores
    from deft_aoi.contract.kpi_target import parse_kpi_target

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    target = parse_kpi_target("FAR < 0.1% at recall=100%")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inference.csv"
        writer = multiprocessing.get_context("fork").Process(target=write_rows, args=(file, args.rows, 1))
        writer.start()
        writer.join()  # a process of its own: what it needs is no part of the peak

        def reference() -> None:
            np.sort(pacsv.read_csv(file).column("siamese_score").to_numpy())

        def ours() -> None:
            kpi_output.analyze_and_write(read_scores(file), Path(folder) / "out", target=target, plots=False)

        ours()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        reference()
        runs = [(cpu_seconds(reference), cpu_seconds(ours)) for _ in range(args.repeat)]
        base, mine = (min(times) for times in zip(*runs, strict=True))
        size = file.stat().st_size
    median = statistics.median(b / a for a, b in runs)
    print(f"rows {args.rows:,}  file {size / 1e6:.0f} MB  CPU: read + sort {base:.3f} s  analyze_kpi {mine:.3f} s")
    print(f"ratio {mine / base:.2f}, median of pairs {median:.2f} (target <= 2)  peak memory {peak / 1e9:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
