"""Turn pre-generated NG/OK image folders into ChangeNet rows and staged images, outside a run.

Pairs by stem; stops (exit 3) and lists everything that does not pair, decode or fit. The workspace itself is only read.
Exit codes: 0; 2 usage; 3 the pairs break the contract; 5 not approved (with --results-dir).
"""

from __future__ import annotations

import argparse
import sys

from deft_aoi.cli import Result, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="examples:\n  python scripts/changenet_data_pair_prepare.py --workspace W --check\n"
        "  python scripts/changenet_data_pair_prepare.py --workspace W --results-dir R --output-dir W/results/pairs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workspace", required=True, metavar="DIR", help="holds augmentation/anomalygen")
    parser.add_argument("--check", action="store_true", help="only read and report; writes nothing, needs no approval")
    parser.add_argument("--results-dir", metavar="DIR", help="the approved run on whose approval files are written")
    parser.add_argument("--output-dir", metavar="DIR", help="a folder below the workspace, outside the run; made if absent")
    parser.add_argument("--light", action="append", metavar="NAME", help="instead of the spec's input_map; repeat for several")
    parser.add_argument("--image-ext", metavar="EXT", help="instead of the spec's image_ext, with its dot")
    parser.add_argument("--force", action="store_true", help="stage again what is there")
    return parser


def run(args: argparse.Namespace) -> Result:
    from pathlib import Path

    from deft_aoi.contract import spec as specs
    from deft_aoi.contract.errors import UsageError
    from deft_aoi.contract.paths import RunPaths, Workspace
    from deft_aoi.contract.text import quoted
    from deft_aoi.mining import pregen_scan, pregen_staging

    workspace = Workspace.at(args.workspace)
    spec = {} if args.light and args.image_ext else specs.load_spec(workspace.baseline_spec)
    found = pregen_scan.scan(workspace, tuple(args.light or specs.lights(spec)), args.image_ext or specs.image_ext(spec))
    types = ", ".join(f"{quoted(name)} {count}" for name, count in list(found.counts_by_type.items())[:20])
    data = {"pairs": len(found.pairs), "counts_by_type": found.counts_by_type, "ignored": len(found.ignored)}
    if args.check:
        return Result(f"{len(found.pairs)} pairs ({types}); {len(found.ignored)} other files ignored", data)
    if not args.output_dir or not args.results_dir:
        raise UsageError("nothing to do", expected="--check, or --results-dir and --output-dir")
    from deft_aoi.loop import gate

    gate.require_open(RunPaths(Path(args.results_dir).resolve()), workspace)
    out = Path(args.output_dir).resolve()
    workspace.rel(out)
    out.mkdir(parents=True, exist_ok=True)
    staged = pregen_staging.stage(found, out, workspace=workspace, final_dir=out, force=args.force)
    text = f"{len(found.pairs)} pairs ({types}), {staged.copied} files copied to {quoted(out, 200)}"
    return Result(text, {**data, "copied": staged.copied})


def main(argv: list[str] | None = None) -> int:
    return run_main(build_parser, run, argv, requires=("numpy", "pandas", "pyarrow", "PIL", "jsonschema", "omegaconf"))


if __name__ == "__main__":
    sys.exit(main())
