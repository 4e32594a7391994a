"""Staging, the pool's table and a second iteration, against their floors.

    python benchmarks/bench_staging.py                          # 1,000 pairs, 5,000 crops
    python benchmarks/bench_staging.py --pairs 5000 --crops 100000

Staging is compared with ``cp`` and ``sha256sum`` of the same files, the pool's build with reading and hashing them, and
the second build must decode nothing. The first build is also compared with decoding every image, which it has to do once:
identity is what the pixels are. Both floors are one thread's; the build takes a child process for each processor. Files
lie in the page cache for both sides; the disk's sync is left to neither.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from deft_aoi.analysis.identity import ContentIndex  # noqa: E402
from deft_aoi.contract.paths import Workspace  # noqa: E402
from deft_aoi.mining import pairs, pool  # noqa: E402

LIGHTS = ("SolderLight",)


def write_crops(folder: Path, names: list[str], side: int, extension: str, seed: int) -> None:
    """Images with structure, so that their size on disk is that of real crops."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{name}{extension}", quality=90)


def report(name: str, seconds: float, floor: float, asked: float) -> None:
    """Print one line."""
    line = {"name": name, "seconds": round(seconds, 3), "floor_seconds": round(floor, 3), "ratio": round(seconds / floor, 2)}
    print(json.dumps({**line, "asked": asked}), flush=True)


def bench_staging(root: Path, count: int) -> None:
    workspace = Workspace(root)
    names = [f"R{i}+bridge_{i:05d}" for i in range(count)]
    write_crops(workspace.pregen_ng, names, 224, ".png", 1)
    write_crops(workspace.pregen_ok, names, 224, ".png", 2)
    found = pairs.scan(workspace, LIGHTS, ".png", decode=False)
    floors, times = [], []
    for attempt in range(3):
        copy = root / f"copy{attempt}"
        start = time.perf_counter()
        subprocess.run(["cp", "-r", str(workspace.pregen_dir), str(copy)], check=True)
        files = sorted(str(p) for p in copy.rglob("*.png"))
        for at in range(0, len(files), 4000):
            subprocess.run(["sha256sum", *files[at : at + 4000]], check=True, stdout=subprocess.DEVNULL)
        floors.append(time.perf_counter() - start)
        shutil.rmtree(copy)
        out = root / "results" / f"run_{attempt}" / "synth_pool"
        out.mkdir(parents=True)
        start = time.perf_counter()
        pairs.stage(found, out, workspace=workspace, final_dir=out)
        times.append(time.perf_counter() - start)
    report(f"staging {count} pairs of 224 px over cp + sha256sum", min(times), min(floors), 1.3)
    start = time.perf_counter()
    pairs.scan(workspace, LIGHTS, ".png")
    print(json.dumps({"name": "scan with every image decoded", "seconds": round(time.perf_counter() - start, 3)}), flush=True)


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
    start = time.perf_counter()
    for path in files:
        hashlib.sha256(path.read_bytes()).hexdigest()
    floor = time.perf_counter() - start
    start = time.perf_counter()
    for path in files:
        with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
            hashlib.sha256(image.convert("RGB").tobytes()).digest()
    decoding = time.perf_counter() - start
    out = root / "out"
    out.mkdir()
    for name, asked in (("first build", 2.0), ("second build", 2.0)):
        index = ContentIndex(root / "cache")
        start = time.perf_counter()
        pool.build(workspace, LIGHTS, ".jpg", index=index, out_dir=out)
        seconds = time.perf_counter() - start
        report(f"{name}: pool of {count} crops to source_pool.parquet over reading and hashing", seconds, floor, asked)
        report(f"{name}: the same over reading, decoding and hashing in one thread", seconds, decoding, asked)
        print(json.dumps({"name": f"{name}: images decoded", "count": index.decoded}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--crops", type=int, default=5000)
    parser.add_argument("--side", type=int, default=64, help="side of a pool crop")
    parser.add_argument("--only", choices=("staging", "pool"), help="one of the two")
    parser.add_argument("--scratch", help="folder to work in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        if args.only != "pool":
            bench_staging(Path(folder).resolve() / "a", args.pairs)
        if args.only != "staging":
            bench_pool(Path(folder).resolve() / "b", args.crops, args.side)
    return 0


if __name__ == "__main__":
    sys.exit(main())
