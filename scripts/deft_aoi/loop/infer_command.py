"""``infer.py``: arguments to words."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.text import quoted
from deft_aoi.loop.infer import Where, check_engine, infer, load_model
from deft_aoi.loop.new_boards import read_boards


def infer_from(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run ``infer.py``'s arguments.

    Raises:
        UsageError: a platform option that is not ``KEY=VALUE``.
    """
    options = {}
    for item in args.platform_option or ():
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError("a platform option is KEY=VALUE", found=quoted(item))
        options[key] = value
    model = load_model(Path(args.model), Path(args.checkpoint) if args.checkpoint else None)
    where = Where(args.engine, args.platform, options, args.image, args.tao_python)
    check_engine(model, where)
    out = Path(args.output).expanduser().resolve()
    body = infer(model, read_boards(args, model.spec, out), out, where=where, progress=show_progress)
    return text(body), body


def show_progress(line: str) -> None:
    """One live line on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line[:110]}")
        sys.stderr.flush()


def text(body: dict[str, Any]) -> str:
    """The decisions in a few lines; a model that did not meet its target says so again."""
    lines = [
        f"{body['flagged']:,} of {body['rows']:,} parts are flagged (score above {body['threshold']!r}), "
        f"{body['passed']:,} pass; {body['unsure']:,} are unsure (near the threshold)",
        f"model: {body['model']['iteration']} of {body['model']['run']}, {body['model']['verdict']} ({body['model']['status']})",
    ]
    measured = body["measured"]
    if measured is not None:
        lines.append(
            f"labels given: {measured['fp']:,} false alarms in {measured['fp'] + measured['tn']:,} distinct good parts, "
            f"{measured['fn']:,} of {measured['fn'] + measured['tp']:,} distinct defects missed"
        )
    if (page := body["review"]) is not None:
        left = f"; {page['left_out']:,} less doubtful ones are not on it" if page["left_out"] else ""
        lines.append(f"judge the flagged and unsure: {page['path']} ({page['parts']:,} parts{left})")
    return "\n".join([*lines, f"decisions: {body['decisions_csv']['path']}"])
