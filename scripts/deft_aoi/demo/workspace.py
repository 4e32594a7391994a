"""The demo workspace: a rendered AOI line with the gap that a real line has.

The base training set knows ``missing`` and ``shift`` only. The line also makes six other defects; the KPI set, the
hold-out, the mining pool and (drawn synthetically) the pre-generated pairs have them. Same seed, same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageFilter

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.files import canonical_json
from deft_aoi.contract.text import PASS
from deft_aoi.demo.board import sample_style
from deft_aoi.demo.lighting import LIGHTS
from deft_aoi.demo.parts import DEFECT_PACKAGES, PACKAGES
from deft_aoi.demo.scene import CAMERA_ERROR, Shot, sample_build, sample_shot, sample_site, take
from deft_aoi.workspaces.builder import SPLITS, WorkspaceBuilder, embedded_spec, encode

KNOWN = ("missing", "shift")
"""What the base training set has been shown."""
UNSEEN = tuple(label for label in DEFECT_PACKAGES if label not in KNOWN)
PRODUCTS = ("PA11-gateway", "PB07-inverter", "PC23-sensor", "PD02-charger", "PE15-display", "PF31-radio")
PER_BOARD = 6
EPOCHS = 10
"""Enough on crops this easy to read, and the whole loop stays a matter of minutes on two cores."""
PIN_COUNT = {"sot23": "3", "soic": "14"}


@dataclass(frozen=True)
class Counts:
    """Rows of one part: sound ones, and defects of each label in ``labels``."""

    sound: int
    each: int
    labels: tuple[str, ...]

    def rows(self) -> list[str]:
        """The labels, row by row, unshuffled."""
        return [PASS] * self.sound + [label for label in self.labels for _ in range(self.each)]


ALL = KNOWN + UNSEEN
SCALES: dict[str, tuple[dict[str, Counts], int]] = {
    "small": (
        {
            "train": Counts(16, 6, KNOWN),
            "validation": Counts(12, 3, KNOWN),
            "kpi": Counts(24, 2, ALL),
            "holdout": Counts(16, 1, ALL),
            "pool": Counts(24, 3, ALL),
        },
        2,
    ),
    "demo": (
        {
            "train": Counts(160, 40, KNOWN),
            "validation": Counts(70, 15, KNOWN),
            "kpi": Counts(240, 20, ALL),
            "holdout": Counts(180, 15, ALL),
            "pool": Counts(300, 25, ALL),
        },
        16,
    ),
    "large": (
        {
            "train": Counts(1200, 300, KNOWN),
            "validation": Counts(400, 80, KNOWN),
            "kpi": Counts(3200, 100, ALL),
            "holdout": Counts(1600, 60, ALL),
            "pool": Counts(5000, 300, ALL),
        },
        100,
    ),
}
"""Rows by part, and pre-generated pairs per unseen defect. ``large`` has enough PASS rows to support FAR < 0.1 %."""


@dataclass(frozen=True)
class Task:
    """One row to render; everything follows from these values, whatever the order."""

    seed: int
    split: str
    number: int
    label: str
    product: int
    board: str
    lights: tuple[str, ...]
    size: int
    camera_error: float = CAMERA_ERROR


@dataclass(frozen=True)
class Rendered:
    """A row with its encoded images, one a light."""

    row: dict[str, str]
    test: tuple[bytes, ...]
    golden: tuple[bytes, ...]


_STREAMS = {name: number for number, name in enumerate((*SPLITS, "pregen"))}


def _streams(task: Task, count: int) -> list[np.random.Generator]:
    root = np.random.SeedSequence([task.seed, _STREAMS[task.split], task.number])
    return [np.random.default_rng(child) for child in root.spawn(count)]


def render(task: Task) -> Rendered:
    """Render one row: the site as designed (golden) and as built (test)."""
    site_rng, golden_rng, build_rng, shot_rng = _streams(task, 4)
    style = sample_style(np.random.default_rng([task.seed, 99, task.product]), task.product)
    packages = PACKAGES if task.label == PASS else DEFECT_PACKAGES[task.label]
    site = sample_site(site_rng, style, packages[int(site_rng.integers(len(packages)))])
    golden = take(site, sample_build(golden_rng), Shot(), task.lights, task.size, golden_rng)
    defect = "" if task.label == PASS else task.label
    severity = float(build_rng.uniform(0.15, 1.0))
    build = sample_build(build_rng, defect=defect, severity=severity)
    if task.split == "pregen":
        # A generator repaints the golden crop: same registration, slightly soft.
        test = take(site, build, Shot(), task.lights[:1], task.size, shot_rng)
        test = [image.filter(ImageFilter.GaussianBlur(0.35)) for image in test]
        golden = golden[:1]
    else:
        test = take(site, build, sample_shot(shot_rng, task.camera_error), task.lights, task.size, shot_rng)
    # The row's number in the name keeps two parts of one board apart that drew the same designator.
    designator = f"{site.designator}{chr(65 + task.number % PER_BOARD)}"
    product = PRODUCTS[task.product]
    row = {
        "input_path": f"{product}/{task.board}/PerComponent",
        "golden_path": f"golden/{product}/{task.board}",
        "label": task.label,
        "object_name": f"{designator}@1",
        "project": product,
        "boardname": task.board,
        "comp_type_1": site.design.package,
        "comp_type_2": "passive" if site.design.package in ("resistor", "capacitor", "tantalum") else "semiconductor",
        "comp_name": designator,
        "part_type": f"{site.design.package}-{site.design.size[0]:g}x{site.design.size[1]:g}",
        "number_of_pins": PIN_COUNT.get(site.design.package, "2"),
        "mpass_mfail": "MPASS" if task.label == PASS else "MFAIL",
        "is_valid": "1",
        "description": "",
    }
    return Rendered(row, tuple(map(encode, test)), tuple(map(encode, golden)))


def _tasks(seed: int, scale: str, lights: tuple[str, ...], size: int, camera_error: float) -> Iterator[Task]:
    counts, pairs = SCALES[scale]
    plan = {name: part.rows() for name, part in counts.items()} | {"pregen": [x for x in UNSEEN for _ in range(pairs)]}
    first = 0
    for split, labels in plan.items():
        order = np.random.default_rng([seed, 7, _STREAMS[split]]).permutation(len(labels))
        for number, index in enumerate(order):
            # Boards are numbered through all parts, so that no board is in two of them.
            board = first + number // PER_BOARD
            name = f"{2100 + seed % 90:04d}-{board:05d}"
            yield Task(seed, split, number, labels[index], board % len(PRODUCTS), name, lights, size, camera_error)
        first += -(-len(labels) // PER_BOARD)


def make_demo(
    output: Path,
    *,
    seed: int = 7,
    size: int = 64,
    lights: int = 1,
    scale: str = "demo",
    workers: int = 1,
    camera_error: float = CAMERA_ERROR,
) -> dict[str, Any]:
    """Render a demo workspace.

    Args:
        output: folder to create.
        seed: same seed, same bytes (with the same versions of NumPy, SciPy and Pillow).
        size: side of a crop in pixels, 64 to 128.
        lights: 1 to 4; every crop is shot under each.
        scale: ``small`` (seconds, for tests), ``demo`` (2,000 rows) or ``large`` (20,000 rows).
        workers: processes that render; the result does not depend on it.
        camera_error: standard deviation of where the camera stops, in pixels of a crop of 64, 0 to 4.

    Returns:
        The report (schema ``workspace_report``).

    Raises:
        UsageError: a value out of range, or the output folder has content.
    """
    if (
        not 64 <= size <= 128
        or not 1 <= lights <= len(LIGHTS)
        or scale not in SCALES
        or seed < 0
        or workers < 1
        or not 0 <= camera_error <= 4
    ):
        raise UsageError(
            "a value is out of range",
            expected=f"size 64 to 128, lights 1 to {len(LIGHTS)}, scale {', '.join(SCALES)}, seed >= 0, workers >= 1, "
            "camera error 0 to 4",
            found=f"size {size}, lights {lights}, scale {scale}, seed {seed}, workers {workers}, camera error {camera_error:g}",
        )
    names = tuple(LIGHTS)[:lights]
    tasks = list(_tasks(seed, scale, names, size, camera_error))
    rows: dict[str, list[dict[str, str]]] = {name: [] for name in SPLITS}
    pregen: dict[str, int] = {}
    with WorkspaceBuilder(output) as builder:
        for task, done in zip(tasks, _render_all(tasks, workers), strict=True):
            if task.split == "pregen":
                _write_pair(builder, task, done, pregen)
            else:
                rows[task.split].append(_write_row(builder, task, done))
        for name, part in rows.items():
            builder.write_split(name, part)
        spec_lines = [{"defect_type": label, "stem_pattern": f"*+{label}_*", "count": pregen[label]} for label in UNSEEN]
        text = "".join(canonical_json(line) + "\n" for line in spec_lines)
        builder.write_bytes("augmentation/anomalygen/defect_spec.jsonl", text.encode())
        builder.write_spec(embedded_spec(names, ".jpg", size, {"num_epochs": EPOCHS}))
        return builder.finish(
            kind="demo",
            parameters={"camera_error": camera_error, "lights": list(names), "scale": scale, "seed": seed, "size": size},
            pregen=pregen,
            notes=[f"base training has {', '.join(KNOWN)} only; KPI set, hold-out and pool have all {len(ALL)} defects"],
        )


def _render_all(tasks: list[Task], workers: int) -> Iterator[Rendered]:
    if workers == 1:
        yield from map(render, tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(render, tasks, chunksize=16)


def _write_row(builder: WorkspaceBuilder, task: Task, done: Rendered) -> dict[str, str]:
    split = SPLITS[task.split]
    row = dict(done.row)
    for column, images in (("input_path", done.test), ("golden_path", done.golden)):
        row[column] = split.prefix + row[column]
        for light, data in zip(task.lights, images, strict=True):
            builder.write_bytes(f"{split.images_dir}/{row[column]}/{row['object_name']}_{light}.jpg", data)
    return row


def _write_pair(builder: WorkspaceBuilder, task: Task, done: Rendered, counts: dict[str, int]) -> None:
    number = counts.get(task.label, 0)
    counts[task.label] = number + 1
    stem = f"{task.board}_{done.row['comp_name']}+{task.label}_{number:05d}"
    builder.write_bytes(f"augmentation/anomalygen/reconstructed_image/{stem}.jpg", done.test[0])
    builder.write_bytes(f"augmentation/anomalygen/original_image/{stem}.jpg", done.golden[0])
