"""What the record stands: every fault, how often it was done, and what was lost (nothing).

    python tests/faults/run.py [--short] [--budget-sec 2400] [--only kill]

One line a fault with the counts reached and their target; exit 1 when a target is missed. A fault ends at its target, so the
budget is a limit only. Faults that this machine cannot do (no strace, no root) are skipped and say so.

Two lanes run side by side: the faults of the record, which wait for the disk, and those of the loop (modules ``fault_*.py``
that define ``FAULTS``: a list of ``(name, share of the budget, function(folder, budget, short) -> Row)``), which compute.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import selectors
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import fault_bytes  # noqa: E402
import fault_crowd  # noqa: E402
import fault_kill  # noqa: E402
import fault_space  # noqa: E402
import fault_syscalls  # noqa: E402
from rig import Budget, Row, forked  # noqa: E402

Fault = tuple[str, float, Callable[[Path, Budget], Row]]

GRACE_SEC = 300.0
"""A fault looks at its budget between two cases; a lane that is still at it so long afterwards hangs, and is killed."""


def record_faults(short: bool) -> list[Fault]:
    """``(name, share of the budget, function)``; the short ones take some twenty seconds together."""
    part = functools.partial
    kills, errors = fault_syscalls.KILLS, fault_syscalls.ERRORS
    some_kills, some_errors = ({"every": 17}, {"every": 41}) if short else ({}, {})
    return [
        ("append-kill", 2, part(fault_syscalls.sweep_append, modes=kills, name="SIGKILL", **some_kills)),
        ("append-error", 4, part(fault_syscalls.sweep_append, modes=errors, name="error", **some_errors)),
        ("publish-kill", 2, part(fault_syscalls.sweep_publish, modes=kills, name="SIGKILL", **some_kills)),
        ("publish-error", 5, part(fault_syscalls.sweep_publish, modes=errors, name="error", **some_errors)),
        ("flip", 2, part(fault_bytes.flips, **({"step": 3, "bits": (0, 5)} if short else {}))),
        ("cut", 4, part(fault_bytes.cuts, **({"step": 29} if short else {}))),
        ("crowd", 2, part(fault_crowd.writers, **({"processes": 8, "appends": 10, "looks": 10} if short else {}))),
        ("drivers", 1, part(fault_crowd.drivers, **({"races": 15} if short else {}))),
        ("full-disk", 1, part(fault_space.full_disk, **({"cycles": 3} if short else {}))),
        ("short-write", 1, part(fault_space.short_writes, **({"step": 23} if short else {}))),
        # The longest comes last: what the others leave of the budget is its own on a slow or busy machine.
        ("kill", 8, part(fault_kill.run, **({"rounds": 12, "acknowledged": 60} if short else {}))),
    ]


def loop_faults(short: bool) -> list[Fault]:
    """The faults of a real loop: see :mod:`fault_stages`."""
    rows: list[Fault] = []
    for path in sorted(Path(__file__).resolve().parent.glob("fault_*.py")):
        for name, share, function in getattr(importlib.import_module(path.stem), "FAULTS", []):
            rows.append((name, share, functools.partial(function, short=short)))
    return rows


def _run(fault: Fault, top: Path, budget: Budget) -> tuple[str, bool]:
    """One fault: ``(its line, whether it may pass)``; a fault that breaks has missed its target."""
    name, _share, function = fault
    start = time.monotonic()
    try:
        folder = top / name
        folder.mkdir()
        row = function(folder, budget)
        text, passed = row.text(), row.met or bool(row.skipped)
    except Exception:
        text, passed = f"{name}: MISSED, it broke:\n{traceback.format_exc()}", False
    return f"{text} [{time.monotonic() - start:.0f} s]\n", passed


def _lane(faults: list[Fault], top: Path, budget_sec: float) -> Callable[[int], None]:
    """The work of one child process: every fault in turn, its line written to the pipe."""

    def work(pipe: int) -> None:
        os.setpgid(0, 0)  # what it starts can be killed with it
        left, end, missed = sum(share for _n, share, _f in faults), time.monotonic() + budget_sec, 0
        for fault in faults:
            # What an earlier fault did not use is there for the later ones.
            text, passed = _run(fault, top, Budget((end - time.monotonic()) * fault[1] / left))
            left -= fault[1]
            missed += not passed
            os.write(pipe, text.encode())
        os._exit(1 if missed else 0)

    return work


def _shown(children: list[tuple[int, int]], limit_sec: float) -> bool:
    """Print the lines of all lanes as they come; whether every one of them ended well."""
    end, good = time.monotonic() + limit_sec, True
    with selectors.DefaultSelector() as selector:
        for pid, pipe in children:
            selector.register(pipe, selectors.EVENT_READ, pid)
        while selector.get_map():
            for key, _events in selector.select(max(0.0, end - time.monotonic())):
                if part := os.read(key.fd, 1 << 16):
                    sys.stdout.write(part.decode())
                    sys.stdout.flush()
                    continue
                selector.unregister(key.fd)
                os.close(key.fd)
                good &= os.waitpid(key.data, 0)[1] == 0
            if time.monotonic() > end:
                for key in list(selector.get_map().values()):
                    sys.stdout.write(f"MISSED: a lane hangs {GRACE_SEC:.0f} s after its budget; killed\n")
                    os.killpg(key.data, signal.SIGKILL)
                    os.waitpid(key.data, 0)
                return False
    return good


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a small part of each fault, about two minutes")
    parser.add_argument("--budget-sec", type=float, default=2400.0, metavar="SEC", help="the most that a lane may take (2400)")
    parser.add_argument("--only", action="append", metavar="NAME", help="only faults whose name holds this; repeatable")
    args = parser.parse_args(argv)
    lanes = [
        [f for f in faults(args.short) if not args.only or any(part in f[0] for part in args.only)]
        for faults in (record_faults, loop_faults)
    ]
    if not any(lanes):
        parser.error("no fault has such a name")
    with tempfile.TemporaryDirectory(prefix="deft-faults-", ignore_cleanup_errors=True) as top:
        os.environ["XDG_STATE_HOME"] = os.path.join(top, "state")
        start = time.monotonic()
        children = [forked(_lane(faults, Path(top), args.budget_sec)) for faults in lanes if faults]
        good = _shown(children, args.budget_sec + GRACE_SEC)
        sys.stdout.write(f"{'every target reached' if good else 'a target was MISSED'} [{time.monotonic() - start:.0f} s]\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
