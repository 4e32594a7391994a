"""Death and error at every system call of one append and of one stage publication, by ``strace -e inject``."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rig import BASE_EVENTS, Budget, Row, judge, new_run
from victims import PID, append, publication

from deft_aoi.contract.errors import DeftError

VICTIM = Path(__file__).with_name("victims.py")
CALLS = (
    "openat",
    "openat2",
    "read",
    "pread64",
    "write",
    "pwrite64",
    "fsync",
    "close",
    "flock",
    "ftruncate",
    "rename",
    "mkdir",
    "unlink",
    "newfstatat",
    "lseek",
    "getdents64",
    "rmdir",
)
KILLS = {"killed before": "error=EIO:signal=KILL", "killed after": "signal=KILL"}
ERRORS = {name: f"error={name}" for name in ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EINTR")}
WRITES = {"one byte taken": "retval=1"}
CLEAN_EXITS = (0, 3, 4, 6)


def _strace(paths: list[str], calls: str, inject: str, log: Path, action: str, folder: Path) -> subprocess.CompletedProcess[str]:
    argv = ["strace", "-qq", "-o", str(log), "-e", f"trace={calls}", *(["-e", f"inject={inject}"] if inject else [])]
    argv += [part for path in paths for part in ("-P", path)]
    argv += [sys.executable, "-I", "-S", "-B", str(VICTIM), action, str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def usable(base: Path) -> str:
    """What is missing for these faults; empty when strace works here."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(
        ["strace", "-qq", "-o", str(base / "probe.txt"), "-e", "inject=close:error=EIO:when=65535", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else f"strace may not trace here: {done.stderr.strip()[:80]}"


Prepare = Callable[[Path], None]
Judge = Callable[[Path, str, int], list[str]]
"""``(run, what the victim said, its exit code)`` → what does not hold."""


class Sweep:
    """One action, its start state, and how it is judged after every fault."""

    def __init__(self, base: Path, action: str, prepare: Prepare, judged: Judge) -> None:
        self.base, self.action, self.judged = base / action, action, judged
        self.base.mkdir()
        self.origin, self.folder, self.log = self.base / "origin", self.base / "run", self.base / "strace.txt"
        prepare(self.origin)
        # The stage's own two files: what the kernel takes from them without a word no manifest can know.
        self.stage_writes = (("write", 2), ("write", 3)) if action == "publish" else ()

    def fresh(self) -> None:
        """Back to the start state."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.origin, self.folder)

    def paths(self) -> list[str]:
        """Every path that the action touches."""
        run, attempt = self.folder, self.folder / "baseline" / "train.tmp-1"
        if self.action == "append":
            names = ["", "run", "run/log.lock", "run/torn", "loop_log.jsonl"]
            return [str(run / n) for n in (*names, "deft_state.json", ".deft_state.json.tmp")]
        files = [attempt / n for n in ("", "a.pth", "b.json", "_MANIFEST.json", f"._MANIFEST.json.{PID}.tmp")]
        mark = attempt.with_name("train.tmp-1.inputs")
        return [
            str(p)
            for p in (
                run,
                run / "baseline",
                attempt,
                run / "baseline" / "train",
                *files,
                mark,
                mark.with_name(f".{mark.name}.{PID}.tmp"),
            )
        ]

    def points(self) -> list[tuple[str, int]]:
        """``(system call, n)`` for every call that touches one of the paths."""
        self.fresh()
        done = _strace(self.paths(), ",".join(CALLS), "", self.log, self.action, self.folder)
        assert done.returncode == 0, done.stderr
        seen = [line.partition("(")[0] for line in self.log.read_text().splitlines()]
        return [(call, n + 1) for call in CALLS for n in range(seen.count(call))]

    def hit(self, call: str, number: int, mode: str) -> tuple[list[str], bool]:
        """Inject once; ``(what does not hold, whether the fault was reached)``."""
        self.fresh()
        done = _strace(self.paths(), call, f"{call}:{mode}:when={number}", self.log, self.action, self.folder)
        text = self.log.read_text()
        reached = "(INJECTED)" in text or "killed by SIGKILL" in text
        code = done.returncode
        problems = []
        if code not in (*CLEAN_EXITS, -signal.SIGKILL, 128 + signal.SIGKILL):
            problems.append(f"exit {code}: {done.stderr.strip()[-200:]}")
        return [f"{call} {number} {mode}: {p}" for p in problems + self.judged(self.folder, done.stdout, code)], reached


def _prepare_append(folder: Path) -> None:
    new_run(folder)
    with (folder / "loop_log.jsonl").open("ab") as handle:
        handle.write(b'{"torn')


def _prepare_rebuild(folder: Path) -> None:
    _prepare_append(folder)
    (folder / "deft_state.json").unlink()


def _judge_append(folder: Path, said: str, code: int) -> list[str]:
    acks = {"baseline/train/1": BASE_EVENTS + 1} if said.strip() else {}
    problems = [p for p in judge(folder, acks, repair_view=False) if "snapshot" not in p]
    if code == 0 and said.strip() != str(BASE_EVENTS + 1):
        problems.append(f"acknowledged {said!r}")
    try:
        again = append(str(folder))
    except DeftError as error:
        return [*problems, f"{error.message}: {error.found}"]
    if again != str(BASE_EVENTS + 1):
        problems.append("the repeated event has another number")
    return problems + judge(folder, {"baseline/train/1": BASE_EVENTS + 1}, repair_view=False)


def _prepare_publish(folder: Path) -> None:
    folder.mkdir()
    (folder / "baseline").mkdir()


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _judge_publish(expected: dict[str, bytes]) -> Judge:
    def judged(folder: Path, said: str, code: int) -> list[str]:
        problems = []
        if said.strip() and not (folder / "baseline" / "train").is_dir():
            problems.append("published, but there is no folder")
        try:
            publication(str(folder))
        except DeftError as error:
            return [*problems, f"{error.message}: {error.found}"]
        found = {k: v for k, v in _tree(folder).items() if not k.rsplit("/", 1)[-1].startswith(".train.tmp-")}
        if found != expected:
            problems.append(f"the tree differs: {sorted(set(found) ^ set(expected)) or 'content'}")
        return problems

    return judged


def _swept(row: Row, sweeps: list[Sweep], modes: dict[str, str], budget: Budget, every: int, offset: int) -> Row:
    for sweep in sweeps:
        points = sweep.points()
        row.target["points"] = row.target.get("points", 0) + len(points[offset::every])
        todo = [(call, n, name, mode) for call, n in points[offset::every] for name, mode in modes.items()]
        if "EIO" in modes:
            taken = [point for point in points[offset::every] if point[0] == "write" and point not in sweep.stage_writes]
            todo += [(call, n, name, mode) for call, n in taken for name, mode in WRITES.items()]
        row.target["faults"] = row.target.get("faults", 0) + len(todo)
        hit = set()
        for call, number, _name, mode in todo:
            if not budget.left():
                break
            problems, reached = sweep.hit(call, number, mode)
            row.problems += problems
            row.counts["faults"] = row.counts.get("faults", 0) + reached
            if reached:
                hit.add((call, number))
        row.counts["points"] = row.counts.get("points", 0) + len(hit)
    return row


def sweep_append(base: Path, budget: Budget, *, modes: dict[str, str], name: str, every: int = 1, offset: int = 0) -> Row:
    """One append, from a log with an incomplete last line, with its snapshot and without."""
    row = Row(f"{name} at every syscall of an append", skipped=usable(base))
    if row.skipped:
        return row
    sweeps = []
    for state, prepare in (("with-snapshot", _prepare_append), ("without", _prepare_rebuild)):
        (base / state).mkdir()
        sweeps.append(Sweep(base / state, "append", prepare, _judge_append))
    return _swept(row, sweeps, modes, budget, every, offset)


def sweep_publish(base: Path, budget: Budget, *, modes: dict[str, str], name: str, every: int = 1, offset: int = 0) -> Row:
    """One stage publication: afterwards the same tree as without a fault."""
    row = Row(f"{name} at every syscall of a publication", skipped=usable(base))
    if row.skipped:
        return row
    whole = base / "whole"
    _prepare_publish(whole)
    publication(str(whole))
    return _swept(row, [Sweep(base, "publish", _prepare_publish, _judge_publish(_tree(whole)))], modes, budget, every, offset)
