"""What the record stands: every fault, how often it was done, and what was lost (nothing).

    python tests/faults/run.py [--short] [--budget-sec 900] [--only kill]

One line a fault with the counts reached and their target; exit 1 when a target is missed. Faults that this machine cannot
do (no strace, no root) are skipped and say so. Further rows come from modules ``fault_*.py`` beside this file that define
``FAULTS``: a list of ``(name, share of the budget, function(folder, budget, short) -> Row)``.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import fault_bytes  # noqa: E402
import fault_crowd  # noqa: E402
import fault_kill  # noqa: E402
import fault_space  # noqa: E402
import fault_syscalls  # noqa: E402
from rig import Budget, Row  # noqa: E402

Fault = tuple[str, float, Callable[[Path, Budget], Row]]


def faults(short: bool) -> list[Fault]:
    """``(name, share of the budget, function)``; the short ones take some twenty seconds together."""
    part = functools.partial
    kills, errors = fault_syscalls.KILLS, fault_syscalls.ERRORS
    every = {"every": 9} if short else {}
    return [
        ("kill", 8, part(fault_kill.run, **({"rounds": 25, "acknowledged": 100} if short else {}))),
        ("append-kill", 2, part(fault_syscalls.sweep_append, modes=kills, name="SIGKILL", **every)),
        ("append-error", 3, part(fault_syscalls.sweep_append, modes=errors, name="error", **({"every": 23} if short else {}))),
        ("publish-kill", 2, part(fault_syscalls.sweep_publish, modes=kills, name="SIGKILL", **every)),
        ("publish-error", 3, part(fault_syscalls.sweep_publish, modes=errors, name="error", **({"every": 23} if short else {}))),
        ("flip", 1, part(fault_bytes.flips, **({"step": 3, "bits": (0, 5)} if short else {}))),
        ("cut", 2, part(fault_bytes.cuts, **({"step": 29} if short else {}))),
        ("crowd", 2, part(fault_crowd.writers, **({"processes": 8, "appends": 10, "looks": 10} if short else {}))),
        ("drivers", 1, part(fault_crowd.drivers, **({"races": 15} if short else {}))),
        ("full-disk", 1, part(fault_space.full_disk, **({"cycles": 3} if short else {}))),
        ("short-write", 1, part(fault_space.short_writes, **({"step": 23} if short else {}))),
    ]


def _further(short: bool) -> list[Fault]:
    rows: list[Fault] = []
    for path in sorted(Path(__file__).resolve().parent.glob("fault_*.py")):
        for name, share, function in getattr(importlib.import_module(path.stem), "FAULTS", []):
            rows.append((name, share, functools.partial(function, short=short)))
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a small part of each fault, about half a minute")
    parser.add_argument("--budget-sec", type=float, default=1500.0, metavar="SEC", help="time for all faults (1500)")
    parser.add_argument("--only", action="append", metavar="NAME", help="only faults whose name holds this; repeatable")
    args = parser.parse_args(argv)
    chosen = [f for f in faults(args.short) + _further(args.short) if not args.only or any(part in f[0] for part in args.only)]
    if not chosen:
        parser.error("no fault has such a name")
    missed, left, end = 0, sum(share for _n, share, _f in chosen), time.monotonic() + args.budget_sec
    with tempfile.TemporaryDirectory(prefix="deft-faults-") as top:
        os.environ["XDG_STATE_HOME"] = os.path.join(top, "state")
        for name, share, function in chosen:
            folder = Path(top) / name
            folder.mkdir()
            start = time.monotonic()
            # What an earlier fault did not use is there for the later ones.
            row = function(folder, Budget((end - start) * share / left))
            left -= share
            missed += not (row.met or row.skipped)
            sys.stdout.write(f"{row.text()} [{time.monotonic() - start:.0f} s]\n")
            sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
