"""Where the values of a metric plan come from: the KPI report, a command of the user's, or a result file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from deft_aoi.analysis.metric import Evaluation, MetricPlan, evaluate_criteria, from_record
from deft_aoi.contract.errors import Blocked, HardStop, JobFailed
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.text import printable, quoted

MARKS = ("workspace", "inference_csv", "kpi_json", "output_dir", "label", "choice")
"""What ``{…}`` in a command's elements is replaced by, once and literally; other braces stay as they are."""

MAX_OUTPUT = 1 << 20
RESULT_FILE = "metric.json"
_MARK = re.compile("|".join(r"\{" + mark + r"\}" for mark in MARKS))
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Candidate:
    """One scored checkpoint.

    Attributes:
        inference_csv: its scored KPI rows.
        kpi_json: its KPI report as a file, for a command.
        folder: existing folder; commands run here, and result files lie here.
        marks: values of the marks that are not paths of the candidate (workspace, label, choice).
    """

    inference_csv: Path
    kpi_json: Path
    folder: Path
    marks: Mapping[str, str]

    def fill(self, part: str) -> str:
        """An element of a command with its marks replaced."""
        known = {
            "inference_csv": str(self.inference_csv),
            "kpi_json": str(self.kpi_json),
            "output_dir": str(self.folder),
            **self.marks,
        }
        return _MARK.sub(lambda m: known.get(m.group()[1:-1], m.group()), part)


def builtin_values(report: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a KPI report that a criterion can name, rates of the target point first."""
    point = report["target_point"]
    names = ("far_fraction", "recall_fraction", "precision_fraction", "f1", "threshold", "far_upper_one_sided")
    out = {n: float(point[n]) for n in names}
    out |= {"auroc": report["auroc"], "aupr": report["aupr"], "fp": float(point["fp"]), "fn": float(point["fn"])}
    out |= {f"recall_fraction:{d['label']}": d["recall_fraction"] for d in report["per_defect"]}
    for p in report["operating_points"]:
        out[f"far_fraction@recall={100 * p['recall_target_fraction']:g}%"] = p["far_fraction"]
    units = report["aoi_units"]
    line = ("false_calls_per_board", "false_calls_ppm", "escapes_ppm", "operator_minutes", "operator_minutes_on_false_calls")
    out |= {k: float(units[k]) for k in line if units[k] is not None}
    return out


def evaluate(plan: MetricPlan, report: Mapping[str, Any], candidate: Candidate) -> Evaluation:
    """Judge one candidate.

    Args:
        plan: the plan.
        report: its KPI report.
        candidate: where its files are.

    Raises:
        HardStop: a criterion has no value, or one that is not finite.
        Blocked: the result file is not there yet.
        JobFailed: the command failed, ran too long, or its output (or the result file) is no JSON object.
    """
    theirs: dict[str, float] = {}
    if plan.evaluator == "argv":
        theirs = _numbers(_run(plan, candidate), "the metric command's output")
    elif plan.evaluator == "result_file":
        path = resolve_under(candidate.folder, plan.result_file)
        theirs = _numbers(_result_text(path, candidate), f"the result file {quoted(path, 200)}")
    return evaluate_criteria(plan, combine(plan, builtin_values(report), theirs))


def combine(plan: MetricPlan, builtin: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """Each evaluator's own values: a name that the command does not print is never taken from the KPI report instead."""
    own = {c.name for c in plan.criteria if plan.is_builtin(c)}
    if plan.evaluator == "builtin":
        return dict(builtin)
    return {**{k: v for k, v in theirs.items() if k not in own}, **{k: v for k, v in builtin.items() if k in own}}


def _run(plan: MetricPlan, candidate: Candidate) -> str:
    """Standard output of the command; it gets a small environment without credentials, and dies with its children."""
    argv = [candidate.fill(part) for part in plan.argv]
    environment = {k: v for k, v in os.environ.items() if k in _INHERITED}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            child = subprocess.Popen(
                argv,
                cwd=candidate.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            raise JobFailed(
                "the metric command cannot be started", expected=quoted(argv[0], 200), found=quoted(error, 200)
            ) from error
        try:
            code = child.wait(plan.time_limit_sec)
        except subprocess.TimeoutExpired as error:
            raise JobFailed(
                "the metric command did not finish",
                expected=f"an end within {plan.time_limit_sec:g} s (time_limit_sec of the metric plan)",
                found=_tail(err),
            ) from error
        finally:
            _kill(child)
        if code != 0:
            raise JobFailed(
                f"the metric command failed with exit code {code}",
                expected="exit code 0 and one JSON object of numbers on standard output",
                found=_tail(err),
                hint="correct what it needs and run the same command again; another command is another plan",
            )
        out.seek(0)
        return out.read(MAX_OUTPUT + 1).decode("utf-8", "replace")


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the command's whole process group: after its end only what it left behind in the background."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        child.wait()


def _tail(err: BinaryIO) -> str:
    size = err.seek(0, os.SEEK_END)
    err.seek(max(0, size - 2000))
    return quoted(err.read(2000).decode("utf-8", "replace"), 300)


def _result_text(path: Path, candidate: Candidate) -> str:
    try:
        with path.open("rb") as handle:
            return handle.read(MAX_OUTPUT + 1).decode("utf-8", "replace")
    except FileNotFoundError as error:
        raise Blocked(
            "the metric's result file is not there yet",
            expected=f"one JSON object of numbers in {printable(path, 300)}",
            hint=f"measure the candidate whose scores are in {printable(candidate.inference_csv, 300)}, write the file, go on",
        ) from error
    except OSError as error:
        raise HardStop(
            "the metric's result file cannot be read",
            expected=quoted(path, 300),
            found=str(error),
            hint="write it again as one JSON object of numbers",
        ) from error


def _numbers(text: str, what: str) -> dict[str, float]:
    try:
        if len(text) > MAX_OUTPUT:
            raise ValueError("longer than 1 MiB")
        obj = json.loads(text)
        if not isinstance(obj, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise JobFailed(f"{what} is not a JSON object", found=f"{quoted(text, 120)} ({printable(error, 80)})") from error
    try:
        return {str(k): float(v) for k, v in obj.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    except OverflowError as error:
        raise JobFailed(f"{what} holds a number that is too large", found=quoted(text, 120)) from error


def judge_again(plan: MetricPlan, report: Mapping[str, Any], record: Mapping[str, Any]) -> Evaluation:
    """The evaluation as it must be: built-in values from the report, a command's or a file's as they are on record."""
    theirs = from_record(record).values
    return evaluate_criteria(plan, combine(plan, builtin_values(report), theirs))
