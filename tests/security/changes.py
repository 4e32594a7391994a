"""What happens when a file changes between two stages: every kind of file × every stage of a small loop.

The undisturbed loop is driven once and kept before each stage. A cell changes one file of one kind right before one stage.
It holds when the stage stops (exit 3 or 5) without an event of success, or when everything that it leaves equals what the
undisturbed stage left. In the second case the next stage meets the change too, which is that stage's own cell: so the
cells together speak for whole runs.

Kinds are not listed but found: every file of the workspace, the run and the caches belongs to one.
"""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.files import MANIFEST_NAME, atomic_write_json, read_json, sha256_file
from deft_aoi.contract.paths import RunPaths
from deft_aoi.loop import drive, launch
from deft_aoi.loop.gate import load_plan
from deft_aoi.loop.next_step import next_step
from deft_aoi.record import log
from deft_aoi.record.state import load_state

from ..faults import normaliser
from ..loop.conftest import deft

NEVER = "FAR < 0.0001% at recall=100%"
IMAGES = (".jpg", ".png")
JOBS = ("train", "inference", "data_mining", "handoff")
"""Stages that launch jobs: what they look at before the first one takes no time."""
_LOCKS = re.compile(r".*\.lock|.*/reserve")
_NUMBER = re.compile(r"[0-9a-f]{12,}|[0-9]+")
SPLITS = {
    "train": "train/base/training_set.csv", "validation": "train/base/validation_set.csv",
    "KPI": "kpi/testing_set.csv", "hold-out": "kpi/holdout_set.csv",
}  # fmt: skip


class Reached(Exception):
    """The stage's own work was about to begin: no gate stopped it."""


@dataclass
class Step:
    """One stage of the undisturbed run: where the state before it is kept, and what it left."""

    name: str
    before: Path
    tree: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)


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


class Loop:
    """A small workspace at one path, its undisturbed run, and the states before its stages.

    Args:
        base: an empty folder; the caller points the user's own folders (``XDG_…``) below it.
        source: a rendered workspace.
        iterations: of the loop.
    """

    def __init__(self, base: Path, source: Path, *, iterations: int = 1) -> None:
        self.base, self.workspace = base, base / "ws"
        shutil.copytree(source, self.workspace)
        self.root = self.workspace / "results" / "run_20260101_000000"
        self.moving = (self.root, self.workspace / ".deft", base / "home")
        """What stages write: put back before each cell."""
        options = ("--training-epochs", "1", "--max-iterations", str(iterations), "--kpi-target", NEVER)
        digest = deft("preflight", "--workspace", self.workspace, *options, "--json").json["digest"]
        assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
        assert deft("init_deft_state", "--plan-digest", digest[:12], "--results-dir", self.root).code == 0
        self.steps: list[Step] = []
        while name := self._next():
            step = Step(name, base / f"kept{len(self.steps):02}")
            for place in self.moving:
                if place.exists():
                    shutil.copytree(place, step.before / place.name, symlinks=True)
            self.drive()
            step.tree, step.events = self.tree(), self.events()
            self.steps.append(step)

    def _next(self) -> str:
        step = next_step(load_state(self.root), load_plan(RunPaths(self.root))[1])
        return f"{step.label} {step.stage}".strip()

    def drive(self) -> None:
        """Run one stage."""
        with mock.patch.object(drive, "_end_after_hard_stop"):  # hand-over after a hard stop has its own test
            drive.drive(self.root, say=_quiet, progress=_quiet, limit=1)

    def tree(self) -> dict[str, str]:
        """What a stage left, normalised (the run and the embeddings)."""
        store, page = self.workspace / ".deft" / "embeddings", self.root / "DEFT_Loop_Report.html"
        found = normaliser.tree(self.root) | (normaliser.tree(store, prefix=".deft/embeddings/") if store.exists() else {})
        # The last page is a function of what the stage found; earlier ones name the duration of the stage itself.
        last = self.events()[-1:]
        return found | ({"the page": sha256_file(page)} if last and '"stage": "report"' in last[0] else {})

    def events(self) -> list[str]:
        """Finished stages."""
        return normaliser.events(log.read(self.root))

    def put_back(self, step: Step) -> None:
        """The state before a stage."""
        for place in self.moving:
            shutil.rmtree(place, ignore_errors=True)
            if (step.before / place.name).exists():
                shutil.copytree(step.before / place.name, place, symlinks=True)

    def kinds(self, rng: random.Random) -> dict[str, Path]:
        """One file of each kind that there is now, relative to the base."""
        found: dict[str, list[Path]] = {}
        for top in (self.workspace, self.base / "home"):
            for path in sorted(top.rglob("*")):
                rel = path.relative_to(self.base)
                images = path.suffix in IMAGES and (path.is_relative_to(self.workspace / "kpi") or "mining_pool" in path.parts)
                if path.is_file() and not path.is_symlink() and not images and not _LOCKS.fullmatch(rel.as_posix()):
                    name = rel.parent / f"*{rel.suffix}" if rel.suffix in IMAGES else rel
                    found.setdefault(_NUMBER.sub("N", name.as_posix()), []).append(rel)
        return {kind: rng.choice(paths) for kind, paths in found.items()} | self._row_images(rng)

    def _row_images(self, rng: random.Random) -> dict[str, Path]:
        """An image of a row of each table: the test image and the golden one; of the pool a mined row and another."""
        out = {}
        tables = {name: (self.workspace / csv, self.workspace / "kpi/images") for name, csv in SPLITS.items()}
        pool = self.workspace / "augmentation/mining_pool"
        mined = self.root.glob("iter*/mining_filter/mining_pool.csv")
        tables |= {f"mined ({p.parent.parent.name})": (p, self.workspace) for p in mined}
        for name, (table, images) in (*tables.items(), ("pool", (pool / "mining_pool.csv", pool))):
            with table.open(newline="", encoding="utf-8") as handle:
                row = rng.choice([r for r in csv.DictReader(handle) if r.get("provenance") != "sdg"])
            for side in ("input", "golden"):
                (path,) = (images / row[f"{side}_path"]).glob(f"{row['object_name']}_*")
                out[f"image of a {name} row, {side}"] = path.relative_to(self.base)
        return out


def _quiet(_line: str) -> None:
    return None


def change(path: Path, rng: random.Random) -> None:
    """Change an image's pixels, a digit of a text, or a bit: something that a reader would still take."""
    data = bytearray(path.read_bytes())
    if path.suffix in IMAGES:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
        pixels[: pixels.shape[0] // 2] ^= 255
        Image.fromarray(pixels).save(path)
        return
    digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57] if _is_text(data) else []
    if digits:
        at = rng.choice(digits)
        data[at] = 48 + (data[at] - 48 + rng.randrange(1, 10)) % 10
    elif data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        data += b"0"
    path.write_bytes(bytes(data))


def change_and_vouch(path: Path, rng: random.Random) -> None:
    """Change a file and the manifest beside it, so that the folder vouches for the changed file."""
    change(path, rng)
    folder = next((p for p in path.parents if (p / MANIFEST_NAME).is_file()), None)
    if folder is None or path.name == MANIFEST_NAME:
        return
    body: dict[str, Any] = read_json(folder / MANIFEST_NAME, what="manifest")
    for entry in body["files"]:
        if entry["path"] == path.relative_to(folder).as_posix():
            entry |= {"size": path.stat().st_size, "sha256": sha256_file(path)}
    atomic_write_json(folder / MANIFEST_NAME, body)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


Change = Callable[[Path, random.Random], None]


class Table:
    """The cells of one undisturbed loop under one way of changing a file."""

    def __init__(self, loop: Loop, how: Change, seed: int) -> None:
        self.loop, self.how, self.rng = loop, how, random.Random(seed)
        self.outcomes = Outcomes()

    def row(self, step: Step) -> None:
        """All cells of one stage: first its gates alone, then its work, with all that no gate noticed changed at once."""
        self.loop.put_back(step)
        kinds = self.loop.kinds(self.rng)
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
        with mock.patch.object(drive, "run_step", side_effect=_gates_only), mock.patch.object(drive, "sweep_published"):
            try:
                drive.drive(self.loop.root, say=_quiet, progress=_quiet, limit=1)
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
                said = self._difference(step, {r.relative_to(self._inside(r)).as_posix() for r in rels})
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

    def _inside(self, rel: Path) -> Path:
        root = self.loop.root.relative_to(self.loop.base)
        return root if rel.is_relative_to(root) else Path(rel.parts[0])

    def _difference(self, step: Step, changed: set[str]) -> str:
        changed = {normaliser.STAMP.sub("<time>", name) for name in changed}
        found, expected = ({k: v for k, v in t.items() if k not in changed} for t in (self.loop.tree(), step.tree))
        differs = normaliser.difference(found, expected)
        if self.loop.events() != step.events:
            new = [e for e in self.loop.events() if e not in step.events]
            differs.append(f"events: {new}")
        return "; ".join(differs)

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


def _gates_only(ctx: Any, step: Any) -> None:
    drive.require_gates(ctx, step)
    raise Reached
