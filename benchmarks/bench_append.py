"""Appending to the run record: start of ``log_stage.py`` against a bare interpreter, and cost against the log's length.

    python benchmarks/bench_append.py [--lines 1500] [--repeat 15]

Start: CPU seconds (user + system, so that the disk's fsync is left aside) of one whole ``log_stage.py`` call over those of
``python -c "import argparse, json"``; target at most 2. Length: wall time of one append, fsyncs included, at line 10 and at
the last line, which reads and verifies the whole log; target at most 50 ms at 1,500 events (best of ``--repeat``), in
proportion for other lengths. Exit 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from deft_aoi.record import log, log_event  # noqa: E402

START_TARGET = 2.0
LENGTH_TARGET_MS = 50.0 / 1500
"""Milliseconds an event of the log."""


def cpu_seconds(argv: list[str], compiled: str) -> float:
    """User plus system time of one child whose compiled modules are kept in ``compiled``, as after a first start."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPYCACHEPREFIX": compiled}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def long_run(folder: Path, lines: int) -> Path:
    """A run with so many events: three real ones, then notes written without their fsyncs."""
    folder.mkdir()
    for stage in ("approve", "assets", "prestage"):
        log.append(folder, iter_label="run", stage=stage, status="ok", summary=stage, duration_sec=0.0)
    path = folder / "loop_log.jsonl"
    last = log.read(folder)[-1]
    prev = log_event.digest(log_event.encode(last))
    with path.open("ab") as handle:
        for seq in range(4, lines):
            event = {**last, "seq": seq, "stage": "note", "data": {"rows": seq}, "op_id": f"note/{seq}", "prev": prev}
            event["crc"] = log_event.crc_of(event)
            raw = log_event.encode(event)
            handle.write(raw)
            prev = log_event.digest(raw)
    note(folder)
    return folder


def note(folder: Path) -> float:
    """Wall seconds of one append."""
    start = time.perf_counter()
    log.append(folder, iter_label="run", stage="note", status="ok", summary="lamp replaced", duration_sec=0.0)
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1500)
    parser.add_argument("--repeat", type=int, default=15)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="deft-bench-") as top:
        few, many = long_run(Path(top) / "few", 10), long_run(Path(top) / "many", args.lines)
        pairs = [(note(few), note(many)) for _ in range(args.repeat)]
        short, long = (min(column) for column in zip(*pairs, strict=True))
        call = [str(SCRIPTS / "log_stage.py"), "--log-path", str(few / "loop_log.jsonl"), "--iter-label", "run"]
        call += ["--stage", "note", "--status", "ok", "--summary", "x"]
        bare = min(cpu_seconds([sys.executable, "-c", "import argparse, json"], f"{top}/pyc") for _ in range(args.repeat))
        started = min(cpu_seconds([sys.executable, *call], f"{top}/pyc") for _ in range(args.repeat))
    ratio, target_ms = started / bare, LENGTH_TARGET_MS * args.lines
    sys.stdout.write(
        f"log_stage.py: {1e3 * started:.0f} ms CPU, bare interpreter {1e3 * bare:.0f} ms: {ratio:.2f}x "
        f"(target {START_TARGET})\n"
        f"append: {1e3 * short:.2f} ms at line 10, {1e3 * long:.2f} ms at line {args.lines} "
        f"(target {target_ms:.0f} ms)\n"
    )
    return 1 if ratio > START_TARGET or 1e3 * long > target_ms else 0


if __name__ == "__main__":
    sys.exit(main())
