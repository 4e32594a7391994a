"""The arguments that plan a run, shared by ``preflight.py`` and ``run_loop.py``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import UsageError

REQUIRES = ("numpy", "pandas", "pyarrow", "yaml", "jsonschema", "PIL", "scipy")


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every argument that enters a plan."""
    run = parser.add_argument_group("what the run is")
    run.add_argument("--workspace", help="folder with specs/, train/base/, kpi/, augmentation/ (default: ~/workspace)")
    run.add_argument("--kpi-target", metavar="TEXT", help='default "FAR < 0.1%% at recall=100%%"')
    run.add_argument(
        "--metric-plan", metavar="FILE", help="JSON: a primary metric of your own with constraints; it then selects and stops"
    )
    run.add_argument(
        "--continue-from",
        metavar="RUN|FILE",
        help="a run or best_model.json: its model is the baseline (champion), scored first and replaced only by a better one",
    )
    run.add_argument("--max-iterations", type=int, metavar="N", help="fine-tuning iterations, 1 to 100 (default 3)")
    run.add_argument("--training-epochs", type=int, metavar="N", help="default: the spec's num_epochs, else the engine's")
    run.add_argument("--seed", type=int, help="train.seed (default 1234)")
    run.add_argument(
        "--set", action="append", dest="overrides", metavar="KEY=VALUE", help="spec override, e.g. train.optim.lr=1e-4"
    )
    run.add_argument("--seconds-per-call", type=float, metavar="S", help="operator seconds per false call (default 5)")
    run.add_argument(
        "--max-new-escapes",
        type=int,
        metavar="N",
        help="defects that a promoted model may miss though the one before caught them (default: as many as it newly catches)",
    )
    run.add_argument("--threshold-rule", metavar="RULE", help="low_end (default), midpoint or tail:P (P: share missed)")
    run.add_argument("--score-noise", type=float, metavar="S", help="by how much the engine's score of a part may differ")
    run.add_argument(
        "--min-recall-support",
        type=float,
        dest="min_recall_support_pct",
        metavar="PCT",
        help="recall in percent that the sample must support for a plain MET (default 99)",
    )
    run.add_argument("--stop-rule", help="cross_validated (default), or point: stop at the first point that meets the target")
    run.add_argument(
        "--registration",
        metavar="auto|off|PIXELS",
        help="move goldens onto the tests before they are compared: where it pays (auto, default), never, or by at most PIXELS",
    )
    run.add_argument(
        "--allow-near-duplicates",
        action="store_true",
        default=None,
        help="train on base rows that show a validation, KPI or hold-out image in another dress; on record, in the report",
    )
    run.add_argument(
        "--defect-label", action="append", dest="defect_labels", metavar="LABEL", help="a defect although its name means good"
    )
    where = parser.add_argument_group("where it runs")
    where.add_argument("--platform", help="local, docker, slurm, kubernetes (default: local for embedded, docker for tao)")
    where.add_argument("--engine", help="embedded or tao (default: decided by the spec's backbone)")
    where.add_argument("--num-gpus", type=int, help="GPUs of a training (default 1; inference always uses 1)")
    where.add_argument("--gpu-ids", metavar="I,J", help="GPUs by id")
    where.add_argument("--tao-python", metavar="PATH", help="Python 3.12 with NVIDIA's TAO wheels (engine tao, platform local)")
    where.add_argument("--image", metavar="REF", help="container image with the engine's commands, instead of the pinned one")
    where.add_argument("--tao-version", help="TAO version that specs are checked for (default 7.1.0)")
    where.add_argument(
        "--platform-option", action="append", metavar="KEY=VALUE", help="an option of the platform; see references/platforms.md"
    )
    where.add_argument(
        "--queue-limit", type=int, metavar="MINUTES", help="end a job that has not started after so long (default: it may wait)"
    )
    where.add_argument("--air-gapped", action="store_true", default=None, help="no pull, no download; everything must be here")
    mine = parser.add_argument_group("mining")
    mine.add_argument("--mining", help="knn (default), hard (rows of the pool that the best model gets wrong), or both")
    mine.add_argument("--hard-rows", type=int, metavar="N", help="hard rows an iteration, half of them defects (default 60)")
    mine.add_argument("--encoder", help="pair_feature (embedded engine), siglip, difference or pixels (no model at all)")
    mine.add_argument("--encoder-checkpoint", choices=("baseline", "latest"), help="whose pair feature mines (default baseline)")
    mine.add_argument("--model-path", metavar="DIR", help="local folder of the SigLIP model")
    mine.add_argument("--top-k-per-target", type=int, metavar="K", help="neighbours asked for per weak sample (default 5)")
    mine.add_argument("--top-k-per-label", type=int, metavar="K", help="weak samples per label, at most (default 50)")
    mine.add_argument("--min-similarity", metavar="S", help="cut-off from -1 to 1, or none (default: the encoder's)")


def given(args: argparse.Namespace) -> dict[str, Any]:
    """What the user said, as :func:`deft_aoi.loop.config.resolve` takes it."""
    names = (
        "kpi_target",
        "max_iterations",
        "training_epochs",
        "seed",
        "overrides",
        "seconds_per_call",
        "platform",
        "engine",
        "num_gpus",
        "tao_version",
        "air_gapped",
        "queue_limit",
        "encoder",
        "encoder_checkpoint",
        "mining",
        "hard_rows",
        "model_path",
        "top_k_per_target",
        "top_k_per_label",
        "min_similarity",
        "max_new_escapes",
        "threshold_rule",
        "score_noise",
        "min_recall_support_pct",
        "stop_rule",
        "allow_near_duplicates",
        "defect_labels",
        "registration",
    )
    said = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.continue_from:
        from deft_aoi.loop.champion import describe

        said["continue_from"] = describe(args.continue_from)
    if args.metric_plan:
        from deft_aoi.analysis.metric import read_metric_plan

        said["metric_plan"] = read_metric_plan(Path(args.metric_plan).expanduser())
    if args.gpu_ids:
        if not all(p.isdigit() for p in args.gpu_ids.split(",")):
            raise UsageError("--gpu-ids takes numbers with commas between", found=args.gpu_ids)
        said["gpu_ids"] = [int(p) for p in args.gpu_ids.split(",")]
    options = {}
    for text in args.platform_option or []:
        key, sep, value = text.partition("=")
        if not sep or not key.isidentifier():
            raise UsageError("--platform-option takes KEY=VALUE", found=text)
        options[key] = value
    for key in ("tao_python", "image"):
        if getattr(args, key):
            options[key] = getattr(args, key)
    if options:
        said["platform_options"] = options
    return said
