"""Mine a pool for the nearest neighbours of weak samples, from two Parquet tables (filepath, label, embedding).

Writes mined_pairs.parquet, mining_pool.csv, knn_summary.csv, mining_summary.txt and target_embeddings.parquet.
Exit codes: 0; 2 usage; 3 a table breaks its contract; 4 a table is missing.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:\n  python scripts/knn_mine.py --targets t.parquet --pool p.parquet --output-dir D --min-similarity 0.9",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--targets", required=True, metavar="FILE", help="Parquet of weak samples")
    parser.add_argument("--pool", required=True, metavar="FILE", help="Parquet of pool samples")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="made if absent")
    parser.add_argument("--topn", type=int, default=5, metavar="K", help="neighbours a target (default 5)")
    parser.add_argument("--metric", choices=("cosine", "euclidean", "manhattan"), default="cosine", help="default cosine")
    parser.add_argument("--min-similarity", type=float, metavar="S", help="cut-off: cosine, or negative distance (default: none)")
    parser.add_argument("--filter-by-label", action="store_true", help="reject neighbours of another label")
    parser.add_argument("--quota-per-label", type=int, metavar="N", help="at most N neighbours of one label a target")
    parser.add_argument("--diversity-margin", type=float, metavar="M", help="farthest first within M of the nearest")
    parser.add_argument("--hard-pass", action="store_true", help="search among PASS rows for PASS targets")
    parser.add_argument("--backend", choices=("auto", "numpy", "torch-cuda"), default="auto", help="default auto")
    parser.add_argument("--block-mib", type=int, default=256, metavar="MIB", help="memory budget (default 256)")
    parser.add_argument("--encoder", default="given", metavar="NAME", help="who made the embeddings, for the record")
    return parser


def run(args: argparse.Namespace) -> Result:
    from pathlib import Path

    from deft_aoi.mining.outputs import summary_lines, summary_row
    from deft_aoi.mining.settings import MiningConfig
    from deft_aoi.mining.tables import mine_tables

    config = MiningConfig(
        args.topn,
        args.metric,
        args.min_similarity,
        args.filter_by_label,
        quota_per_label=args.quota_per_label,
        diversity_margin=args.diversity_margin,
        hard_pass=args.hard_pass,
        backend=args.backend,
        block_bytes=max(1, args.block_mib) << 20,
    )
    mined = mine_tables(Path(args.targets), Path(args.pool), Path(args.output_dir), config=config, encoder=args.encoder)
    return Result("\n".join(summary_lines(mined)[:15]), {**summary_row(mined), "warnings": list(mined.warnings)})


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "pandas", "pyarrow"))


if __name__ == "__main__":
    sys.exit(main())
