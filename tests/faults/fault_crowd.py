"""Many at once: 32 writers, two drivers, readers during writes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from rig import BASE_EVENTS, Budget, Row, drain, forked, judge, new_run, note

from deft_aoi.contract.errors import HardStop, RunLocked
from deft_aoi.record import lock, log


def _writer(folder: Path, name: int, appends: int):
    def work(pipe: int) -> None:
        for number in range(appends):
            ack = note(folder, f"note/{name}-{number}")
            os.write(pipe, f"note/{name}-{number} {ack.seq}\n".encode())
            if number % 2:
                try:
                    log.append(folder, iter_label="iter9", stage="rca", status="ok", summary="out of order", op_id=f"bad/{name}")
                except HardStop:
                    continue
                os.write(pipe, b"bad 0\n")

    return work


def _reader(folder: Path):
    def work(pipe: int) -> None:
        last = looks = 0
        while not (folder / "stop").exists():
            view = log.load_state(folder)
            lock.holder(folder)
            if view["seq"] < last:
                os.write(pipe, b"backwards 0\n")
            last = view["seq"]
            looks += 1
            time.sleep(0.002)  # two readers that never pause take both of a small machine's processors from the writers
        os.write(pipe, f"looks {looks}\n".encode())

    return work


def writers(base: Path, budget: Budget, *, processes: int = 32, appends: int = 50, readers: int = 2, looks: int = 200) -> Row:
    """Every append is acknowledged once, in one order; every reader sees a whole log.

    The faster the writers, the less often anybody can look meanwhile: there are as many crowds as the looks take.
    """
    row = Row(f"{processes} processes x {appends} appends, {readers} readers", {"crowds": 0, "events": 0, "looks": 0})
    row.target = {"events": processes * appends, "looks": looks}
    while not row.met and not row.problems and budget.left():
        _crowd(new_run(base / f"crowd-{row.counts['crowds']}"), row, processes, appends, readers)
    return row


def _crowd(folder: Path, row: Row, processes: int, appends: int, readers: int) -> None:
    watching = [forked(_reader(folder)) for _ in range(readers)]
    children = [forked(_writer(folder, number, appends)) for number in range(processes)]
    acks: dict[str, int] = {}
    for pid, pipe in children:
        rows = [line.split(" ") for line in drain(pipe).splitlines()]
        row.problems += [" ".join(r) for r in rows if r[0] in ("bad", "error")]
        acks.update({r[0]: int(r[1]) for r in rows if r[0].startswith("note/")})
        if os.waitpid(pid, 0)[1]:
            row.problems.append("a writer failed")
    (folder / "stop").touch()
    for pid, pipe in watching:
        for line in drain(pipe).splitlines():
            name, _, number = line.partition(" ")
            if name == "looks":
                row.counts["looks"] += int(number)
            else:
                row.problems.append(f"reader: {line}")
        if os.waitpid(pid, 0)[1]:
            row.problems.append("a reader failed")
    row.problems += judge(folder, acks, repair_view=False)
    row.counts["crowds"] += 1
    row.counts["events"] += len(log.read(folder)) - BASE_EVENTS
    if sorted(acks.values()) != list(range(BASE_EVENTS + 1, BASE_EVENTS + 1 + processes * appends)):
        row.problems.append("numbers are not each given once")


def _driver(folder: Path, gate: int):
    def work(pipe: int) -> None:
        lock.LOCK_WAIT_SEC = 0.03  # the winner stays until it is killed, so patience changes nothing but the time
        lock.NOTE_PATIENCE_SEC = 30.0  # nor here: on a busy machine the winner may be put aside before it says its name
        os.read(gate, 1)
        try:
            with lock.DriverLock(folder):
                os.write(pipe, b"W\n")
                signal.pause()
        except RunLocked as error:
            os.write(pipe, f"L {error.exit_code} {error.found}\n".encode())

    return work


def drivers(base: Path, budget: Budget, *, races: int = 200) -> Row:
    """Of two drivers that start at once exactly one drives; the other is told who."""
    folder = new_run(base / "race")
    row = Row("two drivers racing", {"races": 0}, {"races": races})
    while row.counts["races"] < races and budget.left():
        gate_read, gate_write = os.pipe()
        children = [forked(_driver(folder, gate_read)) for _ in range(2)]
        os.write(gate_write, b"go")
        said = [os.read(pipe, 400).decode() for _pid, pipe in children]
        winners = [pid for (pid, _pipe), text in zip(children, said, strict=True) if text == "W\n"]
        named = [text for text in said if winners and text.startswith(f"L 6 pid {winners[0]} on ")]
        if len(winners) != 1 or len(named) != 1:
            row.problems.append(f"race {row.counts['races']}: {said}")
        for pid, pipe in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(pipe)
        os.close(gate_read)
        os.close(gate_write)
        row.counts["races"] += 1
    return row
