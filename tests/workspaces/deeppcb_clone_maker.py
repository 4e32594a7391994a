"""A small clone in DeepPCB's layout, drawn here: no DeepPCB file is needed or contained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 640
CODES = {"open": 1, "short": 2, "mousebite": 3, "spur": 4, "copper": 5, "pinhole": 6}
BLACK, WHITE = 0, 255


def draw_template(seed: int) -> Image.Image:
    """White board with black traces, pads and one solid area; the lower right corner stays empty."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (SIDE, SIDE), WHITE)
    draw = ImageDraw.Draw(image)
    for y in range(30, 460, 26):
        x0, x1 = int(rng.integers(5, 150)), int(rng.integers(380, 635))
        draw.line((x0, y, x1, y), fill=BLACK, width=8)
        draw.ellipse((x0 - 9, y - 9, x0 + 9, y + 9), fill=BLACK)
    draw.rectangle((20, 500, int(rng.integers(160, 330)), int(rng.integers(570, 630))), fill=BLACK)
    for _ in range(6):
        x, y = int(rng.integers(340, 430)), int(rng.integers(490, 620))
        draw.ellipse((x - 10, y - 10, x + 10, y + 10), fill=BLACK)
    return image


def spoil(template: Image.Image, seed: int) -> tuple[Image.Image, list[tuple[int, int, int, int, int]]]:
    """One defect of each label, far from each other; boxes as DeepPCB annotates them."""
    rng = np.random.default_rng([seed, 1])
    image = template.copy()
    draw = ImageDraw.Draw(image)
    rows = list(range(30, 460, 26))
    boxes = []
    for number, label in enumerate(("open", "short", "mousebite", "spur", "copper", "pinhole")):
        y = rows[1 + 2 * number + int(rng.integers(0, 2))] if label not in ("copper", "pinhole") else 0
        x = int(rng.integers(170, 340))
        if label == "open":
            box = (x - 8, y - 8, x + 8, y + 8)
            draw.rectangle((x - 5, y - 6, x + 5, y + 6), fill=WHITE)
        elif label == "short":
            box = (x - 6, y - 2, x + 6, y + 28)
            draw.rectangle((x - 3, y, x + 3, y + 26), fill=BLACK)
        elif label == "mousebite":
            box = (x - 8, y - 9, x + 8, y + 5)
            draw.ellipse((x - 6, y - 9, x + 6, y + 1), fill=WHITE)
        elif label == "spur":
            box = (x - 8, y - 12, x + 8, y + 2)
            draw.ellipse((x - 5, y - 11, x + 5, y - 1), fill=BLACK)
        elif label == "copper":
            x, y = int(rng.integers(540, 600)), int(rng.integers(520, 600))
            box = (x - 8, y - 8, x + 8, y + 8)
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=BLACK)
        else:
            x, y = int(rng.integers(50, 130)), int(rng.integers(525, 550))
            box = (x - 7, y - 7, x + 7, y + 7)
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=WHITE)
        boxes.append((*box, CODES[label]))
    return image, boxes


def noisy(image: Image.Image, seed: int) -> Image.Image:
    levels = np.asarray(image, dtype=np.float32) + np.random.default_rng([seed, 2]).normal(0, 3, (SIDE, SIDE))
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def make_clone(root: Path, boards: int, *, twins: bool = True) -> Path:
    """Write ``root/PCBData`` with list files; even boards have comma-separated annotations, odd ones spaces.

    With ``twins``, boards 0 and 1 have one template.
    """
    data = root / "PCBData"
    lines = []
    for number in range(boards):
        group, folder = ("group20085", "20085") if number % 2 else ("group00041", "00041")
        name = f"{folder}{number:03d}"
        (data / group / folder).mkdir(parents=True, exist_ok=True)
        (data / group / f"{folder}_not").mkdir(exist_ok=True)
        template = draw_template(0 if twins and number < 2 else number)
        test, boxes = spoil(template, number)
        noisy(template, number + 1000).save(data / group / folder / f"{name}_temp.jpg", quality=92)
        noisy(test, number).save(data / group / folder / f"{name}_test.jpg", quality=92)
        separator = " " if number % 2 else ","
        text = "".join(separator.join(map(str, box)) + "\n" for box in boxes)
        (data / group / f"{folder}_not" / f"{name}.txt").write_text(text)
        lines.append(f"{group}/{folder}/{name}.jpg {group}/{folder}_not/{name}.txt\n")
    cut = boards * 2 // 3
    (data / "trainval.txt").write_text("".join(lines[:cut]))
    (data / "test.txt").write_text("".join(lines[cut:]))
    return root
