"""Staging, the pool's table and a second iteration, against their floors.

    python benchmarks/bench_staging.py                          # 1,000 pairs, 5,000 crops
    python benchmarks/bench_staging.py --pairs 5000 --crops 100000

Staging is compared with ``cp`` and ``sha256sum`` of the same files, the pool's table (from CSV to ``source_pool.parquet``)
with reading and hashing them, the identification that follows (identity is what the pixels are, so each image is decoded
once) with reading, decoding and hashing them. The second time nothing may be read or decoded. Both floors are one thread's;
ours takes a child process for each processor. Seconds are given on the wall and of all processes' CPU. Files lie in the page
cache for both sides; the disk's sync is left to neither.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from deft_aoi.analysis.identity import ContentIndex  # noqa: E402
from deft_aoi.contract.paths import Workspace  # noqa: E402
from deft_aoi.mining import pool, pregen_scan, pregen_staging  # noqa: E402

LIGHTS = ("SolderLight",)


def write_crops(folder: Path, names: list[str], side: int, extension: str, seed: int, *, distinct: int | None = None) -> None:
    """Images with structure, so that their size on disk is that of real crops; after ``distinct`` of them come copies."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i, name in enumerate(names):
        path = folder / f"{name}{extension}"
        if distinct is not None and i >= distinct:
            shutil.copyfile(folder / f"{names[i % distinct]}{extension}", path)
            continue
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)


Seconds = tuple[float, float]


def measure(work: Callable[[], object]) -> Seconds:
    """Seconds on the wall, and of CPU in this process and its children."""
    wall, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    return time.perf_counter() - wall, sum(after[:4]) - sum(before[:4])


def report(name: str, ours: Seconds, floor: Seconds, asked: float | None = None) -> None:
    """Print one line."""
    line = {
        "name": name,
        "wall": round(ours[0], 2),
        "floor_wall": round(floor[0], 2),
        "ratio_wall": round(ours[0] / floor[0], 2),
        "ratio_cpu": round(ours[1] / floor[1], 2),
    }
    print(json.dumps(line | ({"asked": asked} if asked else {})), flush=True)


def bench_staging(root: Path, count: int, turns: int) -> None:
    workspace = Workspace(root)
    names = [f"R{i}+bridge_{i:05d}" for i in range(count)]
    for seed, folder in enumerate((workspace.pregen_ng, workspace.pregen_ok), start=1):
        write_crops(folder, names, 224, ".png", seed, distinct=100)  # nothing is decoded here, so copies cost the same
    found = pregen_scan.scan(workspace, LIGHTS, ".png", decode=False)
    floors, times = [], []
    for attempt in range(turns):
        copy = root / f"copy{attempt}"

        def floor(copy: Path = copy) -> None:
            subprocess.run(["cp", "-r", str(workspace.pregen_dir), str(copy)], check=True)
            files = sorted(str(p) for p in copy.rglob("*.png"))
            for at in range(0, len(files), 4000):
                subprocess.run(["sha256sum", *files[at : at + 4000]], check=True, stdout=subprocess.DEVNULL)

        floors.append(measure(floor))
        shutil.rmtree(copy)
        out = root / "results" / f"run_{attempt}" / "synth_pool"
        out.mkdir(parents=True)
        times.append(measure(lambda out=out: pregen_staging.stage(found, out, workspace=workspace, final_dir=out)))
        shutil.rmtree(out)
    report(f"staging {count} pairs of 224 px over cp + sha256sum", min(times), min(floors), 1.3)


def bench_pool(root: Path, count: int, side: int) -> None:
    workspace = Workspace(root)
    names = [f"R{i}_SolderLight" for i in range(count)]
    write_crops(workspace.pool_dir / "images" / "in", names, side, ".jpg", 3)
    write_crops(workspace.pool_dir / "images" / "golden", names, side, ".jpg", 4)
    with workspace.pool_csv.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["input_path", "golden_path", "label", "object_name"])
        writer.writerows(["images/in", "images/golden", "PASS" if i % 3 else "open", f"R{i}"] for i in range(count))
    files = sorted((workspace.pool_dir / "images").rglob("*.jpg"))

    def read_and_hash() -> None:
        for path in files:
            hashlib.sha256(path.read_bytes()).hexdigest()

    def decode_and_hash() -> None:
        for path in files:
            with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
                hashlib.sha256(image.convert("RGB").tobytes()).digest()

    reading, decoding = measure(read_and_hash), measure(decode_and_hash)
    out = root / "out"
    out.mkdir()
    for name in ("first", "second"):
        index = ContentIndex(root / "cache")
        built: list[pool.Pool] = []
        seconds = measure(lambda i=index, b=built: b.append(pool.build(workspace, LIGHTS, ".jpg", index=i, out_dir=out)))
        report(f"{name} time: {count} crops, CSV to source_pool.parquet, over reading and hashing", seconds, reading, 2.0)
        seconds = measure(lambda i=index, b=built: pool.identify(b[0], workspace, index=i, out_dir=out))
        report(f"{name} time: identification over reading, decoding and hashing", seconds, decoding)
        print(json.dumps({"name": f"{name} time: images decoded", "count": index.decoded}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--crops", type=int, default=5000)
    parser.add_argument("--side", type=int, default=64, help="side of a pool crop")
    parser.add_argument("--turns", type=int, default=3, help="of the staging; the least times count")
    parser.add_argument("--only", choices=("staging", "pool"), help="one of the two")
    parser.add_argument("--scratch", help="folder to work in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        if args.only != "pool":
            bench_staging(Path(folder).resolve() / "a", args.pairs, args.turns)
        if args.only != "staging":
            bench_pool(Path(folder).resolve() / "b", args.crops, args.side)
    return 0


if __name__ == "__main__":
    sys.exit(main())
