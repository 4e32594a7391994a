"""Mutates valid tables, specs, defect specs, Parquet files, images and checkpoints for a while; anything but a typed error is a miss.

Usage: python tests/security/fuzz.py [--seconds N] [--seed N]. Exit codes: 0; 1 a reader raised something else.
The mutation is random with a printed seed, so that a miss can be had again.
"""
# ruff: noqa: E501 - tables of attacks and commands are read line by line

from __future__ import annotations

import argparse
import io
import pickle
import random
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.checkpoint_scan import scan_checkpoint
from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.images import open_image
from deft_aoi.mining.defect_types import read_defect_spec
from deft_aoi.mining.tables import read_embedded

MAX_RSS_KIB = 500 * 1024


def seeds() -> dict[str, tuple[str, bytes, Callable[[Path], Any]]]:
    """A valid file of each kind, and its reader."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    table, png, jpeg, bmp, archive = (io.BytesIO() for _ in range(5))
    pq.write_table(pa.table({"filepath": ["a", "b"], "label": ["PASS", "x"], "embedding": [[1.0, 2.0], [3.0, 4.0]]}), table)
    picture = Image.effect_noise((24, 24), 50).convert("RGB")
    picture.save(png, "PNG")
    picture.save(jpeg, "JPEG")
    picture.save(bmp, "BMP")
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("archive/data.pkl", pickle.dumps({"a": [1, 2.5, "x", {"b": (None, True)}]}, 2))
        target.writestr("archive/version", b"3\n")
    rows = b"input_path,golden_path,label,object_name,boardname\na,g,PASS,C1,b\na,g,bridge,C2,b\n"
    return {
        "CSV": ("t.csv", rows, lambda p: read_changenet_csv(p, what="pool")),
        "YAML": (
            "s.yaml",
            b"model:\n  backbone: {type: x}\ndataset: {classify: {input_map: {L: 0}, image_ext: .jpg}}\n",
            specs.load_spec,
        ),
        "defect_spec": ("d.jsonl", b'{"defect_type": "bridge", "stems": ["a"], "count": 1}\n', read_defect_spec),
        "Parquet": ("e.parquet", table.getvalue(), lambda p: read_embedded(p, "pool")),
        "PNG": ("i.png", png.getvalue(), open_image),
        "JPEG": ("i.jpg", jpeg.getvalue(), open_image),
        "BMP": ("i.bmp", bmp.getvalue(), open_image),
        "checkpoint": ("c.pth", archive.getvalue(), scan_checkpoint),
    }


def mutate(body: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, put in, taken out, repeated, or the end cut off."""
    out = bytearray(body)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(out) + 1)
        kind = chance.randrange(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif kind == 2:
            del out[at : at + chance.randrange(1, 9)]
        elif kind == 3:
            out[at:at] = out[at : at + 64] * chance.randrange(1, 4)
        elif chance.random() < 0.2:
            del out[at:]
        elif at < len(out):
            out[at] = chance.choice((0, 0x7F, 0x80, 0xFF, 10, 13, 34, 44))
    return bytes(out)


def attempt(path: Path, body: bytes, read: Callable[[Path], Any]) -> str:
    """Empty when the reader accepted or refused as it should; else what went wrong."""
    path.write_bytes(body)
    try:
        read(path)
    except DeftError as error:
        if error.exit_code not in (3, 4) or any(len(line) > 600 for line in error.render().split("\n")):
            return f"exit {error.exit_code}: {error.render()[:200]}"
    except Exception as error:  # what is looked for
        return f"{type(error).__name__}: {error}"[:200]
    return ""


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    chance, made, misses = random.Random(args.seed), seeds(), []
    counts = dict.fromkeys(made, 0)
    end = time.monotonic() + args.seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end and len(misses) < 5:
            for kind, (name, body, read) in made.items():
                tried = mutate(body, chance)
                wrong = attempt(Path(folder) / name, tried, read)
                counts[kind] += 1
                if wrong:
                    misses.append(f"{kind}: {wrong}; bytes {tried[:300]!r}")
    rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for miss in misses:
        print("MISS", miss)
    print(
        f"{sum(counts.values())} mutations of {len(counts)} kinds (seed {args.seed}), {len(misses)} misses, peak {rss_kib // 1024} MB"
    )
    return 1 if misses or rss_kib > MAX_RSS_KIB or min(counts.values()) == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
