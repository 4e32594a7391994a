"""The command line of the embedded engine: TAO's subtasks, exit codes and failure lines.

Exit codes: 0 done, 1 failed (one line on standard error and a FAILURE line in ``status.json``), 2 wrong command, 143 or
130 stopped by SIGTERM or SIGINT. A wrong spec fails before ``status.json`` exists, as in TAO.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from omegaconf import DictConfig

from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.files import atomic_write_text
from deft_aoi.engines.embedded import config as spec
from deft_aoi.engines.embedded.status import FAILURE, STARTED, StatusLog

SUBTASKS = ("train", "inference", "evaluate", "export")
EPILOG = """Examples:
  python -m deft_aoi.engines.embedded visual_changenet train -e /abs/spec.yaml results_dir=/abs/out train.seed=7
  python -m deft_aoi.engines.embedded visual_changenet inference -e /abs/spec.yaml inference.checkpoint=/abs/x.pth
  python -m deft_aoi.engines.embedded embedding image_embeddings -e /abs/embed.yaml input_parquet=/abs/in.parquet
"""


class StopSignal:
    """Remembers SIGTERM and SIGINT; the work asks between batches, so nothing is cut in the middle of a write."""

    def __init__(self) -> None:
        """Install the handlers."""
        self.number = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number

    def __call__(self) -> bool:
        """Whether a signal has arrived."""
        return self.number != 0


def build_parser() -> argparse.ArgumentParser:
    """TAO's two commands with their subtasks."""
    parser = argparse.ArgumentParser(
        prog="deft_aoi.engines.embedded",
        description=__doc__.splitlines()[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, subtasks in (("visual_changenet", SUBTASKS), ("embedding", ("image_embeddings",))):
        sub = commands.add_parser(command, help=", ".join(subtasks))
        sub.add_argument("subtask", choices=subtasks)
        sub.add_argument("-e", "--experiment_spec_file", required=True, type=Path, metavar="SPEC", help="YAML spec file")
        sub.usage = f"%(prog)s {{{','.join(subtasks)}}} -e SPEC [key=value ...]"
    return parser


def _visual_changenet(config: DictConfig, subtask: str, log: StatusLog, stop: StopSignal) -> None:
    """Run one subtask; torch is imported here, so that spec errors and ``--help`` do not wait for it."""
    if subtask == "train":
        from deft_aoi.engines.embedded.train import Trainer

        Trainer(config, log, stop=stop).run()
    elif subtask == "export":
        from deft_aoi.engines.embedded.export import run_export

        run_export(config, log)
    else:
        from deft_aoi.engines.embedded import infer

        work = infer.run_inference if subtask == "inference" else infer.run_evaluate
        work(config, log, stop=stop)


def _failure_text(error: Exception) -> str:
    """TAO's wording by kind of error, always one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError):
        return f"File system error: {text}"
    if isinstance(error, (ValueError, TypeError, DeftError)):
        return f"Parameter validation error: {text}"
    return f"{type(error).__name__}: {text}"


def _run_visual_changenet(args: argparse.Namespace, stop: StopSignal) -> None:
    config = spec.load_experiment(args.experiment_spec_file, args.overrides, args.subtask)
    folder = Path(config.results_dir)
    log = StatusLog(folder)
    log.write(f"Starting Visual ChangeNet {args.subtask}.", STARTED)
    try:
        text = spec.to_yaml(config)
        atomic_write_text(folder / "experiment.yaml", text)
        if config.encryption_key:
            text = text.replace(str(config.encryption_key), "*" * 8)
        log.configuration(text)
        log.write(f"Number of output classes: {config.dataset.classify.num_classes}")
        _visual_changenet(config, args.subtask, log, stop)
    except Exception as error:
        log.write(_failure_text(error), FAILURE, echo=False)
        raise
    log.write(f"{args.subtask.capitalize()} finished successfully.")


def _run_embedding(args: argparse.Namespace, stop: StopSignal) -> None:
    from deft_aoi.engines.embedded.embed import run_embedding

    config = spec.load_embedding(args.experiment_spec_file, args.overrides)
    rows = run_embedding(config, stop=stop)
    sys.stdout.write(f"Embedded {rows} rows: {config.output_parquet}\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = build_parser()
    # argparse cannot take positionals on both sides of an option, as TAO's command lines have them.
    args, overrides = parser.parse_known_args(argv)
    args.overrides = overrides
    for text in overrides:
        if text.startswith("-"):
            parser.error(f"unknown option {text}")
    stop = StopSignal()
    try:
        (_run_embedding if args.command == "embedding" else _run_visual_changenet)(args, stop)
    except Exception as error:
        sys.stdout.flush()
        sys.stderr.write(f"ERROR: {_failure_text(error)}\nExecution status: FAIL\n")
        return 128 + stop.number if stop() else 1
    sys.stdout.write("Execution status: PASS\n")
    return 0
