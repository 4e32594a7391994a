"""What happens when a file changes between two stages: every kind of file × every stage of a small loop.

The undisturbed loop is driven once and kept before each stage. A cell changes one file of one kind right before one stage.
It holds when the stage stops (exit 3 or 5) without an event of success, or when everything that it leaves equals what the
undisturbed stage left. In the second case the next stage meets the change too, which is that stage's own cell: so the
cells together speak for whole runs.

Usage: python -m tests.security.change_table [--iterations N] (from the repository's root, scripts/ on PYTHONPATH).
Prints the counts and each cell that does not hold. Exit codes: 0, or 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.manifests import MANIFEST_NAME
from deft_aoi.contract.stages import POOL_FILES
from deft_aoi.loop import driver, launch

from ..faults import normaliser
from ..loop.conftest import deft
from .changes import Loop, Reached, Step, change, change_and_vouch, gates_only, quiet

JOBS = ("train", "inference", "data_mining", "handoff")
"""Stages that launch jobs: what they look at before the first one takes no time."""

RECORDED_HERE = {("image of a pool row, input", "run prestage"), ("image of a pool row, golden", "run prestage")}
"""The pool is digested after approval, by this stage: what it finds there is what the run is bound to from then on."""


EMBEDDINGS = ".deft/embeddings/"

Change = Callable[[Path, random.Random], None]


@dataclass
class Outcomes:
    """How the cells ended."""

    stopped: dict[tuple[str, str], str] = field(default_factory=dict)
    unchanged: list[tuple[str, str]] = field(default_factory=list)
    wrong: dict[tuple[str, str], str] = field(default_factory=dict)

    def __str__(self) -> str:
        kinds = {kind for kind, _ in (*self.stopped, *self.unchanged, *self.wrong)}
        cells = len(self.stopped) + len(self.unchanged) + len(self.wrong)
        return (
            f"{cells} cells of {len(kinds)} kinds of files: {len(self.stopped)} stopped, {len(self.unchanged)} left everything "
            f"as it was, {len(self.wrong)} wrong"
        )


class Table:
    """The cells of one undisturbed loop under one way of changing a file."""

    def __init__(self, loop: Loop, how: Change, seed: int, at_most: int | None = None) -> None:
        self.loop, self.how, self.rng, self.at_most = loop, how, random.Random(seed), at_most
        self.outcomes = Outcomes()

    def row(self, step: Step) -> None:
        """All cells of one stage: first its gates alone, then its work, with all that no gate noticed changed at once."""
        self.loop.put_back(step)
        kinds = {kind: rel for kind, rel in self.loop.kinds(self.rng).items() if (kind, step.name) not in RECORDED_HERE}
        if self.at_most is not None:
            kinds = dict(self.rng.sample(sorted(kinds.items()), min(self.at_most, len(kinds))))
        passed = {}
        for kind, rel in kinds.items():
            with self._changed([rel]) as changed:
                stop = self._gates() if changed else None
            if stop:
                self.outcomes.stopped[kind, step.name] = stop
            elif changed:
                passed[kind] = rel
        self._work(step, passed)

    def _gates(self) -> str:
        """What the gates before a stage say; nothing is written."""
        with mock.patch.object(driver, "run_step", side_effect=gates_only), mock.patch.object(driver, "sweep_published"):
            try:
                driver.drive(self.loop.root, say=quiet, progress=quiet, limit=1)
            except Reached:
                return ""
            except DeftError as error:
                assert error.exit_code in (3, 5), error.render()
                return error.render()
        raise AssertionError("no stage is due")

    def _work(self, step: Step, kinds: dict[str, Path], *, singly: bool = True) -> None:
        """The stage itself with these files changed; a stop or a difference is looked for in the halves."""
        if not kinds:
            return
        self.loop.put_back(step)
        rels, said = list(kinds.values()), ""
        with self._changed(rels):
            try:
                self.loop.drive()
            except DeftError as error:
                said = error.render()
                kind_of_end = "stop" if error.exit_code in (3, 5) else "wrong"
            else:
                said = self._difference(step, {r.relative_to(self._inside(r)).as_posix() for r in self._touched(rels)})
                kind_of_end = "wrong" if said else "unchanged"
        if kind_of_end == "unchanged":
            self.outcomes.unchanged += [(kind, step.name) for kind in kinds]
        elif singly and step.name.endswith(JOBS):
            stopped = [kind for kind, rel in kinds.items() if self._before_the_job(step, rel)]
            for kind in stopped:
                self._work(step, {kind: kinds[kind]}, singly=False)
            self._work(step, {k: rel for k, rel in kinds.items() if k not in stopped}, singly=False)
        elif len(kinds) == 1:
            place = self.outcomes.stopped if kind_of_end == "stop" else self.outcomes.wrong
            place[next(iter(kinds)), step.name] = said
        else:
            names = list(kinds)
            for half in (names[: len(names) // 2], names[len(names) // 2 :]):
                self._work(step, {kind: kinds[kind] for kind in half})

    def _before_the_job(self, step: Step, rel: Path) -> bool:
        """Whether the stage stops before it would launch its first job: a cheap look for those that do."""
        self.loop.put_back(step)
        with self._changed([rel]), mock.patch.object(launch, "job_name", side_effect=Reached):
            try:
                self.loop.drive()
            except Reached:
                return False
            except DeftError:
                return True
        return False

    def _touched(self, rels: list[Path]) -> set[Path]:
        """The changed files, and the manifests that were changed with them."""
        if self.how is not change_and_vouch:
            return set(rels)
        folders = {folder for rel in rels for folder in rel.parents if (self.loop.base / folder / MANIFEST_NAME).is_file()}
        return {*rels, *(folder / MANIFEST_NAME for folder in folders)}

    def _inside(self, rel: Path) -> Path:
        root = self.loop.root.relative_to(self.loop.base)
        return root if rel.is_relative_to(root) else Path(rel.parts[0])

    def _difference(self, step: Step, changed: set[str]) -> str:
        if all(name.startswith(EMBEDDINGS) for name in changed):
            return self._healed(step)
        changed = {normaliser.STAMP.sub("<time>", name) for name in changed}
        found, expected = ({k: v for k, v in t.items() if k not in changed} for t in (self.loop.tree(), step.tree))
        differs = normaliser.difference(found, expected)
        if self.loop.events() != step.events:
            new = [e for e in self.loop.events() if e not in step.events]
            differs.append(f"events: {new}")
        return "; ".join(differs)

    def _healed(self, step: Step) -> str:
        """Damaged embeddings are set aside and made again: other parts and logs, the same tables and the same decisions."""
        trees = [
            {name: digest for name, digest in tree.items() if name.endswith((".csv", ".txt")) or name in POOL_FILES}
            for tree in (self.loop.tree(), step.tree)
        ]
        states = [
            [(e["iter"], e["stage"], e["data"].get("state")) for e in map(json.loads, events)]
            for events in (self.loop.events(), step.events)
        ]
        assert trees[0]
        assert any(state for _label, _stage, state in states[0])
        differs = normaliser.difference(*trees)
        return "; ".join(differs + ([] if states[0] == states[1] else [f"decisions: {states}"]))

    @contextmanager
    def _changed(self, rels: list[Path]) -> Iterator[bool]:
        """Files changed, and put back; false where the change left the file as it was."""
        kept: dict[Path, bytes] = {}
        times = {}
        for rel in rels:
            path = self.loop.base / rel
            for victim in (path, *(p / MANIFEST_NAME for p in path.parents if (p / MANIFEST_NAME).is_file())):
                if victim not in kept:
                    kept[victim] = victim.read_bytes()
                    times[victim] = (victim.stat().st_atime_ns, victim.stat().st_mtime_ns)
            self.how(path, random.Random(f"{rel}"))
            os.utime(path, ns=times[path])  # as a careful attacker would
        try:
            yield any(path.read_bytes() != data for path, data in kept.items())
        finally:
            for path, data in kept.items():
                if not path.exists() or path.read_bytes() != data:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                    os.utime(path, ns=times[path])


def table(loop: Loop, how: Change, seed: int, *, at_most: int | None = None) -> Outcomes:
    """All cells of one undisturbed loop; of each stage ``at_most`` so many kinds, chosen by the seed."""
    made = Table(loop, how, seed, at_most)
    for step in loop.steps:
        made.row(step)
    return made.outcomes


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--iterations", type=int, default=2, help="of the loop (default 2)")
    args = parser.parse_args(argv)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="deft-changes-") as name:
        base = Path(name)
        for variable in ("STATE", "CACHE", "DATA"):
            os.environ[f"XDG_{variable}_HOME"] = str(base / "home" / variable.lower())
        said = deft("make_demo_workspace", "--output", base / "source", "--scale", "small", "--seed", 3)
        assert said.code == 0, said.err
        loop = Loop(base, base / "source", iterations=args.iterations)
        told = []
        for number, (what, how) in enumerate({"changed": change, "changed with its manifest": change_and_vouch}.items()):
            found = table(loop, how, number)
            told.append(f"{what}: {found}")
            for cell, problem in found.wrong.items():
                print(what, *cell, problem[:300], sep=" | ", flush=True)
            wrong += len(found.wrong)
    print(f"{len(loop.steps)} stages; " + "; ".join(told))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
