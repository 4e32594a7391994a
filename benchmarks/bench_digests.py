"""Content digests against reading and decoding, and validation with digests at hand: prints ratios and seconds.

    python benchmarks/bench_digests.py [--crops 20000] [--rows 100000]

1. Digests of JPEG crops (64 x 64) against opening and decoding the same files as RGB (target: at most 1.3), both in
   one process, so that CPU seconds compare.
2. The same index once more: every file known (reads no pixel).
3. Validation of ``--rows`` training rows whose digests are cached, against three references (target: 3 s of CPU for
   100,000 rows). Rows name distinct input images and share goldens, as production data does.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

PER_BOARD = 200


def write_crops(root: Path, count: int) -> list[str]:
    """``count`` different JPEG crops in folders of 200; the last two in a folder serve as its goldens."""
    from PIL import Image

    rng = np.random.default_rng(5)
    paths = []
    for i in range(count):
        tile = rng.integers(0, 2, (8, 8), dtype=np.uint8) * 180 + 30
        pixels = np.repeat(np.kron(tile, np.ones((8, 8), dtype=np.uint8))[:, :, None], 3, axis=2)
        path = root / f"board{i // PER_BOARD}" / f"C{i}_White.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)
        paths.append(str(path))
    return paths


def write_copies(root: Path, paths: list[str], count: int, prefix: str) -> None:
    """Rows beyond the crops are copies, each with its own path to look up; a hard link would be refused."""
    for i in range(count):
        path = root / prefix / f"board{i // PER_BOARD}" / f"C{i}_White.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[i % len(paths)], path)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=100_000)
    args = parser.parse_args(argv)
    import pandas as pd
    from PIL import Image

    from deft_aoi.analysis import dataset
    from deft_aoi.analysis.identity import ContentIndex, Part
    from deft_aoi.contract.changenet_csv import ImageLayout

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        paths = write_crops(root / "crops", args.crops)

        def reference() -> None:
            for path in paths:
                with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
                    image.convert("RGB").load()

        def digests(cache: str, *, thumbs: bool = False) -> None:
            ContentIndex(root / cache, workers=1).pixels(paths, thumbs=thumbs)

        reference()
        turns = []
        for turn in range(5):
            works = (reference, lambda t=turn: digests(f"cache{t}"), lambda t=turn: digests(f"thumbs{t}", thumbs=True))
            turns.append([timed(work)[1] for work in works])
        for at, name in ((1, "digests"), (2, "with thumbnails, which only pre-flight takes")):
            least = min(t[at] for t in turns) / min(t[0] for t in turns)
            pairs = statistics.median(t[at] / t[0] for t in turns)
            print(
                f"{args.crops:,} crops, {name}: least times {least:.2f}, median of pairs {pairs:.2f} of reading and decoding "
                f"({min(t[0] for t in turns):.2f} s CPU; digests <= 1.3)"
            )
        known = timed(lambda: digests("cache0"))
        print(f"all known: {known[1]:.2f} s CPU")

        write_copies(root, paths, args.rows, "in")
        write_copies(root, paths[: PER_BOARD // 2], args.rows, "gold")
        boards = [i // PER_BOARD for i in range(args.rows)]
        frame = pd.DataFrame(
            {
                "input_path": [f"in/board{b}" for b in boards],
                "golden_path": [f"gold/board{b}" for b in boards],
                "label": [("open", "PASS", "PASS", "PASS")[i % args.crops % 4] for i in range(args.rows)],
                "object_name": [f"C{i}" for i in range(args.rows)],
            }
        )
        layout = ImageLayout(root, ("White",), ".jpg")
        ids = ContentIndex(root / "rows").digest_pairs(frame, layout)
        # References of other contents: identities with a prefix that no row has.
        other = ids.head(2000).assign(content_id="x" + ids["content_id"].head(2000))
        against = [Part(n, frame.head(2000), layout, other) for n in ("validation set", "KPI set", "hold-out set")]
        wall, cpu = timed(lambda: dataset.validate(frame, layout=layout, index=ContentIndex(root / "rows"), against=against))
        print(f"validate {args.rows:,} rows, digests cached: {cpu:.2f} s CPU, {wall:.2f} s wall (<= 3 s CPU)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
