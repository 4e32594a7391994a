"""Did the job do its work? Judged by evidence, never by "exit 0" alone.

A job succeeded when all of this holds: exit code 0; the last segment of ``status.json`` ends with TAO's success
sentence; that segment has no FAILURE line; and the expected outputs exist, are newer than the launch, and have the
expected structure. TAO breaks each of the first three now and then: it exits 0 after an interrupt, writes no FAILURE
line for most exceptions, and reports success when it resumed a finished run and trained nothing.
"""

from __future__ import annotations

import csv
import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from deft_aoi.contract.errors import JobFailed
from deft_aoi.contract.manifests import require_plain
from deft_aoi.contract.text import quoted
from deft_aoi.engines import known_errors
from deft_aoi.engines.known_errors import KnownError

KINDS = ("train", "evaluate", "inference", "export", "embedding")
SCORE_COLUMN = "siamese_score"
# `model_best_*` only with train.checkpointer (7.1 and later); step 0 is what TAO dumps when it dies before training.
_CHECKPOINT = re.compile(r"model_epoch_(?P<epoch>\d{3,})_step_(?P<step>\d{5,})\.pth|model_best_(?:epoch=)?(?P<best>\d{3,})\.pth")
_HEAD_BYTES, _TAIL_BYTES = 1 << 16, 1 << 19
_MAX_STATUS_BYTES = 64 << 20
_COLLAPSED = 1e-7


@dataclass(frozen=True)
class Output:
    """One output file: path relative to the output folder, and size."""

    path: str
    size_bytes: int


@dataclass(frozen=True)
class Evidence:
    """Why a job counts as done.

    Attributes:
        kind: what ran.
        sentence: TAO's success sentence; empty for ``embedding``, which writes no status file.
        outputs: new outputs with the expected structure.
        rows: rows of the inference CSV or the embedding Parquet file; ``None`` for a training.
        metrics: the last value of each metric by TAO's own name (percent for rates; TAO divides by all samples).
        warnings: known errors that do not make the job fail.
    """

    kind: str
    sentence: str
    outputs: tuple[Output, ...]
    rows: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[KnownError, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """The evidence as the small JSON object that goes into an event."""
        return {
            "kind": self.kind,
            "sentence": self.sentence,
            "rows": self.rows,
            "metrics": dict(self.metrics),
            "outputs": [{"path": o.path, "size": o.size_bytes} for o in self.outputs[-8:]],
            "output_count": len(self.outputs),
            "warnings": [w.id for w in self.warnings],
        }


def check(
    kind: str,
    out_dir: str | Path,
    *,
    exit_code: int | None,
    log_path: str | Path,
    launched_ns: int,
    expected_rows: int | None = None,
    reason: str = "",
) -> Evidence:
    """Decide whether a job did its work.

    Args:
        kind: ``train``, ``evaluate``, ``inference``, ``export`` or ``embedding``.
        out_dir: the folder that holds ``status.json`` and the outputs (TAO's effective results folder); for
            ``embedding`` the output Parquet file itself.
        exit_code: the command's exit code; ``None`` where the platform does not know it.
        log_path: the job's output.
        launched_ns: the launch, nanoseconds since the epoch; older outputs do not count.
        expected_rows: rows that the output must have.
        reason: the platform's own word for the end (``time limit`` …).

    Raises:
        JobFailed: with the known error's id in its message.
        HardStop: the job left a link that leads elsewhere, or a special file, among its outputs.
    """
    folder, log = Path(out_dir), Path(log_path)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind}")
    require_plain(folder if folder.is_dir() else folder.parent)
    segment = [] if kind == "embedding" else last_segment(folder / "status.json", kind, newer_than_ns=launched_ns)
    if exit_code != 0:
        _fail(kind, log, segment, _by_exit(exit_code, reason), found=f"exit code {exit_code}{f' ({reason})' if reason else ''}")
    if any(line.get("status") == "FAILURE" for line in segment):
        _fail(kind, log, segment, known_errors.FAILURE_LINE, found="exit code 0 with a FAILURE line in status.json")
    sentence = "" if kind == "embedding" else f"{kind.capitalize()} finished successfully."
    if sentence and (not segment or segment[-1].get("message") != sentence):
        _fail(kind, log, segment, known_errors.NO_SENTENCE, found="exit code 0 without the success sentence in status.json")
    metrics = last_metrics(segment)
    if kind == "train":
        outputs = tuple(Output(p.name, p.stat().st_size) for p in new_checkpoints(folder, launched_ns))
        if not outputs:
            _fail(kind, log, (), known_errors.ZERO_STEPS, found="success without a new, whole model_epoch_*.pth", certain=True)
        return Evidence(kind, sentence, outputs, metrics=metrics)
    if kind == "inference":
        rows, warnings = _check_inference(folder / "inference.csv", launched_ns, expected_rows, log)
        return Evidence(kind, sentence, (_output(folder / "inference.csv"),), rows, metrics, warnings)
    if kind == "embedding":
        rows = _check_embedding(folder, launched_ns, expected_rows, log)
        return Evidence(kind, "", (_output(folder),), rows)
    if kind == "export":
        made = [path for path in folder.glob("*.onnx") if path.stat().st_mtime_ns >= launched_ns]
        if not made:
            _fail(kind, log, segment, known_errors.NO_SENTENCE, found="success without a new .onnx file", certain=True)
        return Evidence(kind, sentence, tuple(_output(path) for path in made))
    return Evidence(kind, sentence, (), metrics=metrics)


def read_status(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a ``status.json`` (JSON Lines). A torn last line and lines that are not objects are left out."""
    try:
        with Path(path).open("rb") as handle:
            raw = handle.read(_MAX_STATUS_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return []
    lines = []
    for text in raw.decode("utf-8", "replace").splitlines():
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            lines.append(value)
    return lines


def last_segment(path: Path, kind: str, *, newer_than_ns: int = 0) -> list[dict[str, Any]]:
    """The lines of the last start of ``kind``: TAO appends to a file that is there already.

    Returns:
        No lines where the file is older than the launch: it speaks of another job.
    """
    if not path.is_file() or path.stat().st_mtime_ns < newer_than_ns:
        return []
    lines = read_status(path)
    start = f"Starting Visual ChangeNet {kind}."
    starts = [i for i, line in enumerate(lines) if line.get("status") == "STARTED" and line.get("message") == start]
    return lines[starts[-1] :] if starts else []


def last_metrics(segment: list[dict[str, Any]]) -> dict[str, float]:
    """The last value of each metric, read only from the lines that introduce it: ``kpi`` sticks to later lines."""
    metrics: dict[str, float] = {}
    for line in segment:
        kpi = line.get("kpi")
        if str(line.get("message", "")).endswith("metrics generated.") and isinstance(kpi, dict):
            metrics.update({str(k): float(v) for k, v in kpi.items() if isinstance(v, (int, float)) and math.isfinite(v)})
    return metrics


def validation_losses(path: str | Path) -> dict[int, float]:
    """Validation loss by epoch (0-based, as in the checkpoints' names).

    TAO writes the metrics of an epoch's validation just before that epoch's "Training loop in progress" line.
    """
    losses: dict[int, float] = {}
    pending: float | None = None
    for line in read_status(path):  # all of them: a resumed training goes on in the same file
        kpi = line.get("kpi")
        if line.get("message") == "Eval metrics generated." and isinstance(kpi, dict) and "val_loss" in kpi:
            pending = float(kpi["val_loss"])
        elif line.get("message") == "Training loop in progress" and pending is not None:
            losses[int(line["epoch"])], pending = pending, None
    return losses


def progress(out_dir: str | Path) -> str:
    """One line on a running training, from ``status.json``; empty before the first epoch has ended."""
    for line in reversed(read_status(Path(out_dir) / "status.json")):
        if line.get("message") == "Training loop in progress":
            try:
                return f"epoch {int(line['epoch']) + 1} of {int(line['max_epoch']) + 1}, {quoted(line['eta'], 20)} left"
            except (KeyError, TypeError, ValueError):
                return ""
    return ""


def running_epoch(results_dir: str | Path) -> str:
    """:func:`progress` of the training that a run is at, whatever iteration it belongs to; empty where none is."""
    found = list(Path(results_dir).expanduser().glob("*/train.tmp-*/status.json"))
    return progress(max(found, key=lambda path: path.stat().st_mtime_ns).parent) if found else ""


def new_checkpoints(folder: Path, launched_ns: int) -> list[Path]:
    """Whole checkpoints of at least one step that are newer than the launch, ordered by epoch and step."""
    found = []
    for path in Path(folder).glob("model_*.pth"):
        name = _CHECKPOINT.fullmatch(path.name)
        if (
            name
            and not path.is_symlink()
            and path.stat().st_mtime_ns >= launched_ns
            and (name["best"] is not None or int(name["step"]) > 0)
            and is_whole_checkpoint(path)
        ):
            found.append((name["best"] is None, int(name["epoch"] or name["best"]), int(name["step"] or 0), path))
    return [entry[3] for entry in sorted(found)]


def is_whole_checkpoint(path: Path) -> bool:
    """Whether the file is a complete PyTorch zip archive; its content is never unpickled here.

    A torn write loses the central directory, which lies at the end.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = path.stat().st_size
            entries = archive.infolist()
            return any(e.filename.endswith("/data.pkl") for e in entries) and all(
                e.header_offset + e.compress_size < size for e in entries
            )
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def diagnose(log_path: str | Path, segment: list[dict[str, Any]] | tuple[()] = ()) -> KnownError | None:
    """Name the known error that the FAILURE lines or the log show; else the job's own last error line is the cause."""
    failures = [str(line.get("message", "")) for line in segment if line.get("status") == "FAILURE"]
    lines = _log_lines(Path(log_path))
    found = known_errors.match(failures) or known_errors.match(lines)
    own = failures or [line for line in lines if line.startswith("ERROR: ")]
    if own and found in (None, known_errors.BY_ID["launcher-fail"]):
        return replace(known_errors.FAILURE_LINE, cause=quoted(own[-1], 300))
    return found


def _log_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as handle:
            head = handle.read(_HEAD_BYTES)
            size = handle.seek(0, 2)
            handle.seek(max(len(head), size - _TAIL_BYTES))
            tail = handle.read()
    except OSError:
        return []
    return head.decode("utf-8", "replace").splitlines() + tail.decode("utf-8", "replace").splitlines()


def _by_exit(exit_code: int | None, reason: str) -> KnownError:
    if reason == "time limit":
        return known_errors.TIME_LIMIT
    return {137: known_errors.KILLED, 135: known_errors.BY_ID["shared-memory"]}.get(exit_code or 0, known_errors.UNKNOWN_FAILURE)


def _fail(
    kind: str, log: Path, segment: list[dict[str, Any]] | tuple[()], fallback: KnownError, *, found: str, certain: bool = False
) -> NoReturn:
    error = fallback if certain or fallback is known_errors.TIME_LIMIT else diagnose(log, segment) or fallback
    raise JobFailed(
        f"{kind} failed [{error.id}]: {error.cause}",
        expected=f"exit code 0, '{kind.capitalize()} finished successfully.', and new outputs",
        found=f"{found}; log {log}",
        hint=error.fix,
    )


def _output(path: Path) -> Output:
    return Output(path.name, path.stat().st_size)


def _check_inference(path: Path, launched_ns: int, expected_rows: int | None, log: Path) -> tuple[int, tuple[KnownError, ...]]:
    if not path.is_file() or path.stat().st_mtime_ns < launched_ns:
        _fail("inference", log, (), known_errors.STALE_OUTPUT, found="no new inference.csv", certain=True)
    lowest, highest, rows = math.inf, -math.inf, 0
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.reader(handle)
        header = next(reader, [])
        if SCORE_COLUMN not in header:
            _fail("inference", log, (), known_errors.BAD_OUTPUT, found=f"inference.csv has no {SCORE_COLUMN}", certain=True)
        at = header.index(SCORE_COLUMN)
        for rows, row in enumerate(reader, start=1):
            try:
                score = float(row[at])
            except (ValueError, IndexError):
                score = math.nan
            if not math.isfinite(score) or len(row) != len(header):
                _fail(
                    "inference",
                    log,
                    (),
                    known_errors.BAD_OUTPUT,
                    found=f"row {rows + 1} of inference.csv has no finite score or another width",
                    certain=True,
                )
            lowest, highest = min(lowest, score), max(highest, score)
    if rows == 0 or (expected_rows is not None and rows != expected_rows):
        _fail(
            "inference",
            log,
            (),
            known_errors.BAD_OUTPUT,
            found=f"inference.csv has {rows} rows, not {expected_rows}",
            certain=True,
        )
    return rows, (known_errors.CLASS_COLLAPSE,) if rows > 1 and highest - lowest <= _COLLAPSED else ()


def _check_embedding(path: Path, launched_ns: int, expected_rows: int | None, log: Path) -> int:
    if not path.is_file() or path.stat().st_mtime_ns < launched_ns:
        _fail("embedding", log, (), known_errors.STALE_OUTPUT, found="no new output Parquet file", certain=True)
    import pyarrow.lib
    import pyarrow.parquet

    try:
        meta = pyarrow.parquet.read_metadata(path)
        names, rows = set(meta.schema.to_arrow_schema().names), int(meta.num_rows)
    except (pyarrow.lib.ArrowException, OSError):
        names, rows = set(), -1
    if not {"filepath", "embedding"} <= names:
        _fail("embedding", log, (), known_errors.BAD_OUTPUT, found="not a Parquet file with filepath and embedding", certain=True)
    if rows < 1 or (expected_rows is not None and rows != expected_rows):
        _fail("embedding", log, (), known_errors.BAD_OUTPUT, found=f"{rows} embeddings, not {expected_rows}", certain=True)
    return rows
