"""An event that is written from a command line (``log_stage.py``): checked arguments, composed summary."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from deft_aoi.contract import stages
from deft_aoi.contract.errors import ApprovalNeeded, UsageError
from deft_aoi.record import log
from deft_aoi.record.log_file import LOG

if TYPE_CHECKING:
    import argparse

MAX_NOTE = 300
SPOT_CHECK = "spot_check"


def append_manual_event(args: argparse.Namespace) -> tuple[log.Ack, str]:
    """Append what the arguments say.

    The words of ``--summary`` are the summary of a note, quoted; for any other stage they are kept in ``data["said"]``, and
    the summary is composed.

    Returns:
        The acknowledgement, and a warning or nothing.

    Raises:
        UsageError: the path is no run's record, or ``--data`` is no JSON object.
        ApprovalNeeded: an ``approve`` event cannot be written by hand.
    """
    path = os.path.abspath(os.path.expanduser(args.log_path))
    if os.path.basename(path) != LOG or not os.path.isfile(path):
        raise UsageError("--log-path is not the record of a run", expected=f"RESULTS_DIR/{LOG}", found=_quoted(args.log_path))
    if args.stage not in stages.NAMES:
        raise UsageError("there is no such stage", expected=", ".join(stages.NAMES), found=_quoted(args.stage))
    if args.stage == "approve":
        raise ApprovalNeeded(
            "an approval is never written by hand",
            hint="a person runs approve.py, then init_deft_state.py opens the run",
        )
    data = _data(args.data)
    if args.stage == "note" and "files" in data:
        raise UsageError("a note records no files", expected="--data without the key files", found=_quoted(str(data["files"])))
    said = _quoted(args.summary)
    if args.stage == "note":
        summary = said
    else:
        summary = f"{args.iter_label} {args.stage} {args.status} (logged by hand)"
        data.setdefault("said", said)
    ack = log.append(
        os.path.dirname(path),
        iter_label=args.iter_label,
        stage=args.stage,
        status=args.status,
        summary=summary,
        data=data,
        op_id=args.op_id,
        duration_sec=args.duration_sec,
        context_tokens=args.context_tokens,
    )
    stale = "warning: the event is on record, but deft_state.json could not be written; the next event writes it"
    return ack, "" if ack.snapshot == "ok" else stale


def append_spot_check(results_dir: str | os.PathLike[str], label: str, said: str) -> None:
    """Put a spot check on record as a ``note`` that is told apart from somebody's sentence on the iteration.

    A folder without a record is left without one: verdicts can also be kept beside an analysis that no run made.
    """
    root = os.path.realpath(os.fspath(results_dir))
    if os.path.isfile(os.path.join(root, LOG)):
        from deft_aoi.contract.files import digests_below

        data = {"kind": SPOT_CHECK, "files": digests_below(root, ["run/spot_check.json"])}
        log.append(root, iter_label=label, stage="note", status="ok", summary=_plain(said), data=data)


def _plain(text: str) -> str:
    from deft_aoi.contract.text import printable

    return printable(text, MAX_NOTE)


def _data(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError("--data is not JSON", expected='an object such as {"rows": 3}', found=_quoted(text)) from error
    if not isinstance(body, dict):
        raise UsageError("--data is not an object", expected='an object such as {"rows": 3}', found=_quoted(text))
    return body


def _quoted(text: str) -> str:
    from deft_aoi.contract.text import quoted

    return quoted(text, MAX_NOTE)
