"""How far the exact search is from its floors: the bare product in the same blocks, and one reading of the matrix.

    python benchmarks/bench_knn.py                       # 2,000 targets x 200,000 x 768
    python benchmarks/bench_knn.py --rows 1000000 --targets 5000 --sklearn
    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_knn.py --clock cpu         # on a machine with other work
    python benchmarks/bench_knn.py --cuda --rows 10000000 --targets 5000      # needs a GPU; the pool is streamed from the host

Prints one line a measure: seconds, the floor's seconds, their ratio, the ratio asked for. Ratios of one run, best of
``--repeat``; the pool is a file that is mapped (page cache warm), as the store gives it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from deft_aoi.mining.neighbours import top_k  # noqa: E402
from deft_aoi.mining.store import StoredRows  # noqa: E402

MIB = 1 << 20


CLOCK = {"wall": time.perf_counter, "cpu": time.process_time}


def best(work: Callable[[], object], repeat: int, clock: str = "wall") -> float:
    """Seconds of the fastest of ``repeat`` calls."""
    times, now = [], CLOCK[clock]
    for _ in range(repeat):
        start = now()
        work()
        times.append(now() - start)
    return min(times)


def make_pool(path: Path, rows: int, dim: int) -> StoredRows:
    """A file of unit vectors, mapped."""
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dim))
    rng = np.random.default_rng(0)
    for at in range(0, rows, 50_000):
        block = rng.standard_normal((min(50_000, rows - at), dim), dtype=np.float32)
        out[at : at + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()
    del out
    return stored(path)


def stored(path: Path) -> StoredRows:
    """The file as the store gives it: read block by block."""
    part = np.load(path, mmap_mode="r")
    return StoredRows([part], np.arange(len(part)), part.shape[1])


def bare_product(targets: np.ndarray, pool: StoredRows, block_bytes: int) -> None:
    """The products of the same blocks, their results thrown away."""
    from deft_aoi.mining.neighbours import _NumpyScorer, _Search

    shape = _NumpyScorer(_Search(targets, pool, 5, "cosine", block_bytes, np.arange(len(pool))), normalized=True)
    out = np.empty((shape.target_rows, shape.block_rows), dtype=np.float32)
    for start in range(0, len(pool), shape.block_rows):
        block = pool[start : start + shape.block_rows]
        for first in range(0, len(targets), shape.target_rows):
            part = targets[first : first + shape.target_rows]
            np.matmul(part, block.T, out=out.reshape(-1)[: len(part) * len(block)].reshape(len(part), len(block)))


def read_once(path: Path) -> None:
    """Every byte of the file into one buffer."""
    buffer = bytearray(16 * MIB)
    with path.open("rb", buffering=0) as handle:
        while handle.readinto(buffer):
            pass


def report(name: str, seconds: float, floor: float, asked: float) -> dict[str, object]:
    """Print and return one line."""
    line: dict[str, object] = {"name": name, "seconds": round(seconds, 3), "floor_seconds": round(floor, 3)}
    line |= {"ratio": round(seconds / floor, 2), "asked": asked}
    print(json.dumps(line), flush=True)
    return line


def peak_memory(folder: Path, args: argparse.Namespace) -> int:
    """MiB that a fresh process takes beyond its imports and targets while it streams the pool."""
    code = (
        "import re, sys, numpy as np\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from deft_aoi.mining.neighbours import top_k\n"
        "from deft_aoi.mining.store import StoredRows\n"
        "part, targets = np.load(sys.argv[2] + '/pool.npy', mmap_mode='r'), np.load(sys.argv[2] + '/targets.npy')\n"
        "pool = StoredRows([part], np.arange(len(part)), part.shape[1])\n"
        "top_k(targets[:2], targets, 2)\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = peak()\n"
        "top_k(targets, pool, int(sys.argv[3]), block_bytes=int(sys.argv[4]), backend='numpy', normalized=True)\n"
        "print((peak() - before) // 1024)\n"
    )
    argv = [sys.executable, "-c", code, sys.path[0], str(folder), str(args.k), str(args.block_mib * MIB)]
    return int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def bench_cpu(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        path = Path(folder) / "pool.npy"
        pool = make_pool(path, args.rows, args.dim)
        budget = args.block_mib * MIB
        targets = np.array(pool[: args.targets]) + np.float32(0.01)
        targets /= np.linalg.norm(targets, axis=1, keepdims=True)

        def search(queries: np.ndarray) -> float:
            options = {"block_bytes": budget, "backend": "numpy", "normalized": True}
            return best(lambda: top_k(queries, pool, args.k, **options), args.repeat, args.clock)

        floor = best(lambda: bare_product(targets, pool, budget), args.repeat, args.clock)
        name = f"top-{args.k}, {args.targets} x {args.rows} x {args.dim}, over the bare product"
        report(name, search(targets), floor, 1.4)
        reading = best(lambda: read_once(path), args.repeat, args.clock)
        report(f"top-{args.k}, 50 x {args.rows} x {args.dim}, over reading once", search(targets[:50]), reading, 5.0)
        np.save(Path(folder) / "targets.npy", targets)
        line = {
            "name": "peak memory of a process that streams",
            "mib": peak_memory(Path(folder), args),
            "asked": args.block_mib + 500,
        }
        print(json.dumps(line), flush=True)
        if args.sklearn:
            from sklearn.neighbors import NearestNeighbors

            held = pool[:]
            other = NearestNeighbors(n_neighbors=args.k, algorithm="brute", metric="cosine").fit(held)
            seconds = best(lambda: other.kneighbors(targets), 1)
            report("scikit-learn, the same targets, over the bare product (its own ratio in the issue: 6.4)", seconds, floor, 1.4)


def bench_cuda(args: argparse.Namespace) -> None:
    import torch

    rng = np.random.default_rng(0)
    pool = rng.standard_normal((args.rows, args.dim), dtype=np.float32)
    for at in range(0, args.rows, 500_000):
        pool[at : at + 500_000] /= np.linalg.norm(pool[at : at + 500_000], axis=1, keepdims=True)

    def stream(targets: np.ndarray) -> None:
        queries = torch.from_numpy(targets).cuda()
        for at in range(0, args.rows, 1 << 15):
            queries @ torch.from_numpy(pool[at : at + (1 << 15)]).cuda().T
        torch.cuda.synchronize()

    print(json.dumps({"device": torch.cuda.get_device_name()}))
    for count in (args.targets, 50):
        targets = pool[:count] + np.float32(0.01)
        options = {"backend": "torch-cuda", "normalized": True, "block_bytes": args.block_mib * MIB}
        top_k(targets[:64], pool[:4096], args.k, **options)
        floor = best(lambda targets=targets: stream(targets), 3)
        seconds = best(lambda targets=targets, options=options: top_k(targets, pool, args.k, **options), 3)
        report(f"top-{args.k}, {count} x {args.rows} x {args.dim} on the GPU, over copying and multiplying", seconds, floor, 3.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--block-mib", type=int, default=256)
    parser.add_argument("--clock", choices=CLOCK, default="wall", help="cpu: for a busy machine, with OPENBLAS_NUM_THREADS=1")
    parser.add_argument("--scratch", help="folder for the pool's file")
    parser.add_argument("--sklearn", action="store_true", help="also time scikit-learn")
    parser.add_argument("--cuda", action="store_true", help="on the GPU, the pool from the host")
    args = parser.parse_args()
    (bench_cuda if args.cuda else bench_cpu)(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
