"""A small loop kept before each of its stages, the kinds of files that it has, and ways of changing one.

Kinds are not listed but found: every file of the workspace, the run and the caches belongs to one.
"""

from __future__ import annotations

import csv
import random
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from deft_aoi.contract.files import atomic_write_json, read_json, sha256_file
from deft_aoi.contract.manifests import MANIFEST_NAME
from deft_aoi.contract.paths import RunPaths
from deft_aoi.loop import driver
from deft_aoi.loop.gate import load_plan
from deft_aoi.loop.next_step import next_step
from deft_aoi.record import log
from deft_aoi.record.log import load_state

from ..faults import normaliser
from ..loop.conftest import deft

NEVER = "FAR < 0.0001% at recall=100%"
IMAGES = (".jpg", ".png")
_LOCKS = re.compile(r".*\.lock|.*/reserve")
_NUMBER = re.compile(r"[0-9a-f]{12,}|[0-9]+")
SPLITS = {
    "train": "train/base/training_set.csv",
    "validation": "train/base/validation_set.csv",
    "KPI": "kpi/testing_set.csv",
    "hold-out": "kpi/holdout_set.csv",
}


class Reached(Exception):
    """The stage's own work was about to begin: no gate stopped it."""


@dataclass
class Step:
    """One stage of the undisturbed run: where the state before it is kept, and what it left."""

    name: str
    before: Path
    tree: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)


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
        with mock.patch.object(driver, "_end_after_hard_stop"):  # hand-over after a hard stop has its own test
            driver.drive(self.root, say=quiet, progress=quiet, limit=1)

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


def quiet(_line: str) -> None:
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


def gates_only(ctx: Any, step: Any) -> None:
    """In place of a stage: its gates, as the driver asks them, and then :class:`Reached`."""
    if step.stage != "loop_stop":
        driver.require_gates(ctx, step)
    raise Reached
