"""Stage the pre-generated pairs and build the pool of an approved run (its prestage stage), or say what is staged.

A killed call continues; a repeated one verifies what is there. --force throws away a staging that is not on record yet.
Exit codes: 0; 2 prestage is not next, or is on record; 3 hard stop; 4 encoder absent; 5 not approved; 6 run locked.
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:\n  python scripts/prestage_pregen.py --workspace W --results-dir W/results/run_20260101_080000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workspace", required=True, metavar="DIR", help="the workspace of the run")
    parser.add_argument("--results-dir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("--force", action="store_true", help="stage again")
    parser.add_argument("--embed-with-siglip", action="store_true", help="also embed the pool with SigLIP")
    parser.add_argument("--model-path", metavar="DIR", help="SigLIP's folder (default: the Hugging Face cache)")
    parser.add_argument("--executor", choices=("local", "ray"), default="local", help="who embeds (default local)")
    parser.add_argument("--ray-address", metavar="ADDR", help="a running Ray cluster")
    parser.add_argument("--shards", type=int, default=1, metavar="N", help="files that the embedding is cut into (default 1)")
    return parser


def run(args: argparse.Namespace) -> Result:
    from pathlib import Path

    from deft_aoi.contract import spec as specs
    from deft_aoi.contract.errors import UsageError
    from deft_aoi.contract.paths import RunPaths, Workspace
    from deft_aoi.loop import gate
    from deft_aoi.loop.cli_driver import run_driver
    from deft_aoi.mining import embed_pool, pregen_staging
    from deft_aoi.record import log
    from deft_aoi.record.driver_exit import DriverOptions

    workspace, paths = Workspace.at(args.workspace), RunPaths(Path(args.results_dir).expanduser().resolve())
    if paths.workspace.root != workspace.root:
        raise UsageError("the run is not of this workspace", expected=str(paths.workspace.root), found=str(workspace.root))
    gate.require_open(paths, workspace)
    recorded = any(event["stage"] == "prestage" and event["status"] == "ok" for event in log.read(paths.root))
    if recorded and args.force:
        raise UsageError("prestage is on record", expected="a run without it", found=paths.root.name, hint="start a new run")
    if not recorded:
        if args.force:
            pregen_staging.discard(paths.synth_pool)
        text, data, code = run_driver(str(paths.root), script=__file__, options=DriverOptions(), limit=1, named="prestage")
    else:
        data, code = pregen_staging.check_unchanged(workspace, paths.synth_pool), 0
        text = f"staged before: {data['pairs']} pairs, {data['files_checked']} files unchanged"
    if args.embed_with_siglip and code == 0:
        spec = specs.load_spec(workspace.baseline_spec)
        done, known = embed_pool.embed_pool(
            workspace,
            paths.synth_pool / "source_pool.csv",
            specs.lights(spec),
            specs.image_ext(spec),
            cache_dir=workspace.cache_dir / "embeddings",
            encoder="siglip",
            model_path=args.model_path,
            executor=args.executor,
            shard_count=args.shards,
            address=args.ray_address,
        )
        text, data = f"{text}\n{done} images embedded with SigLIP, {known} contents in the store", {**data, "embedded": done}
    return Result(text, data, code)


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "pandas", "pyarrow", "yaml", "jsonschema", "PIL", "scipy"))


if __name__ == "__main__":
    sys.exit(main())
