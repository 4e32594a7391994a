"""SIGKILL of 1–8 writers at random moments; some rounds leave an incomplete last line or lose the snapshot as well."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from rig import Budget, Row, drain, forked, judge, new_run, note

ROUNDS_A_RUN = 40
"""A fresh log after so many rounds: the judge reads the whole log after every one."""


def _writer(folder: Path, name: str):
    def work(pipe: int) -> None:
        number = 0
        while True:
            ack = note(folder, f"note/{name}-{number}")
            os.write(pipe, f"note/{name}-{number} {ack.seq}\n".encode())
            number += 1

    return work


def _round(folder: Path, number: int, rng: random.Random, acks: dict[str, int]) -> tuple[int, int]:
    """Start writers, kill them, collect what they acknowledged, and repeat what they did not."""
    names = [f"{number}-{w}" for w in range(rng.randint(1, 8))]
    children = [forked(_writer(folder, name)) for name in names]
    time.sleep(rng.uniform(0.005, 0.2))
    for pid, _pipe in rng.sample(children, len(children)):
        os.kill(pid, signal.SIGKILL)
    got = 0
    for (pid, pipe), name in zip(children, names, strict=True):
        rows = [line.split(" ") for line in drain(pipe).splitlines()]
        os.waitpid(pid, 0)
        acks.update({key: int(seq) for key, seq in rows})
        got += len(rows)
        # The event in flight when the kill came is repeated under its key: recorded once, whether it was durable or not.
        key = f"note/{name}-{len(rows)}"
        acks[key] = note(folder, key).seq
        got += 1
    return len(children), got


def _also(folder: Path, rng: random.Random) -> None:
    """What a power cut may add to a kill."""
    chance = rng.random()
    if chance < 0.2:
        with (folder / "loop_log.jsonl").open("ab") as handle:
            handle.write(rng.choice([b'{"context_tokens":0,"crc":"', b"\0" * 37, b"\xff\xfe garbage"]))
    elif chance < 0.4:
        (folder / "deft_state.json").unlink()


def run(base: Path, budget: Budget, *, rounds: int = 1000, acknowledged: int = 5000, seed: int = 1) -> Row:
    """Kill writers until both targets are reached or the time is spent."""
    row = Row("SIGKILL of 1-8 writers", {"rounds": 0, "killed": 0, "acknowledged": 0})
    row.target = {"rounds": rounds, "acknowledged": acknowledged}
    rng = random.Random(seed)
    folder, acks = base, {}
    while not row.met and not row.problems and budget.left():
        if row.counts["rounds"] % ROUNDS_A_RUN == 0:
            folder, acks = new_run(base / f"kill-{row.counts['rounds']}"), {}
        killed, got = _round(folder, row.counts["rounds"], rng, acks)
        row.problems += judge(folder, acks, repair_view=False)
        _also(folder, rng)
        row.counts["rounds"] += 1
        row.counts["killed"] += killed
        row.counts["acknowledged"] += got
    return row
