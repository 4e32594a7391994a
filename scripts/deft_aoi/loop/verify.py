"""Does the run's record agree with its files? Chain, snapshot, digests, counts, and every KPI computed again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deft_aoi.analysis.metric import Evaluation
from deft_aoi.contract.errors import DeftError, HardStop, UsageError
from deft_aoi.contract.files import MANIFEST_NAME, read_json, sha256_file, verify_manifest
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.schema import read_checked
from deft_aoi.contract.text import plain_text
from deft_aoi.loop import gate, primary_metric
from deft_aoi.loop.context import RunContext
from deft_aoi.loop.stages import dataset, evaluate
from deft_aoi.loop.stages.inference import CHOICES
from deft_aoi.record import log, publish, state, vouched

PUBLISHED = ("train", "inference", "rca", "routing", "anomalygen", "data_mining", "dataset")
SHOWN = 12
_SURPLUS = "not in the manifest: "
# Files that a later stage adds to, or replaces in, a published folder on purpose; what they hold is checked below.
_ADDED_BY_EVALUATE = ("best_val/", "latest/", vouched.VOUCHER)
_REFRESHED = ("source_pool.csv", "source_pool.parquet", "source_embeddings.parquet", "source_embed.log")


@dataclass
class Verdict:
    """What was checked and what does not hold."""

    checked: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything holds; nothing checked is a failure."""
        return not self.problems and bool(self.checked)

    def count(self, what: str, number: int = 1) -> None:
        """Note that something was checked."""
        self.checked[what] = self.checked.get(what, 0) + number

    def require(self, holds: bool, what: str, problem: str) -> None:
        """Count a check, and keep the problem when it fails."""
        self.count(what)
        if not holds:
            self.problems.append(plain_text(problem, 300))

    def text(self) -> str:
        """The verdict in at most fifteen lines."""
        done = ", ".join(f"{n} {what}" for what, n in self.checked.items())
        if self.holds:
            return f"everything holds: {done}"
        more = [f"… and {len(self.problems) - SHOWN} more"] if len(self.problems) > SHOWN else []
        return "\n".join([f"{len(self.problems)} things do not hold ({done})", *(f"  {p}" for p in self.problems[:SHOWN]), *more])

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"holds": self.holds, "checked": self.checked, "problems": self.problems}


def verify_run(results_dir: Path) -> Verdict:
    """Check one run.

    Raises:
        UsageError: not a run's folder.
        HardStop: the record itself is damaged.
    """
    run = RunPaths(Path(results_dir).expanduser().resolve())
    if not run.log.exists():
        raise UsageError(
            f"{plain_text(run.root.name)} is not a run", expected="a folder with loop_log.jsonl", found=str(run.root)
        )
    verdict = Verdict()
    events = log.read(run.root)
    verdict.count("events in an unbroken chain", len(events))
    view = state.fold(events)
    on_disk = run.state.read_bytes() if run.state.exists() else b""
    verdict.require(
        on_disk == state.snapshot_bytes(events), "snapshot equal to the fold", "deft_state.json is not the fold of the log"
    )
    plan, config = gate.load_plan(run)
    ctx = RunContext(run, run.workspace, plan, config, lambda _line: None, lambda _line: None)
    _all_published(verdict, run, events, tuple(view.get("iterations", {})))
    for label, it in view.get("iterations", {}).items():
        if "evaluate" in it.get("stages", {}):
            _evaluated(verdict, ctx, label, it)
        if "dataset" in it.get("stages", {}):
            _assembled(verdict, ctx, label, it)
    _handed_over(verdict, run, events)
    return verdict


def require_published(run: RunPaths, events: list[vouched.Event], labels: tuple[str, ...]) -> None:
    """Stop when a file that an earlier stage of these iterations published is no longer what it was.

    Raises:
        HardStop: names the first files.
    """
    verdict = Verdict()
    _all_published(verdict, run, events, labels)
    if verdict.problems:
        raise HardStop(
            f"what earlier stages published has changed ({len(verdict.problems)} findings)",
            expected="the files as their manifests describe them",
            found="; ".join(verdict.problems[:SHOWN]),
            hint="restore them from a copy, or start a new run; verify_run.py shows the whole picture",
        )


def sweep_published(run: RunPaths, view: dict[str, Any]) -> None:
    """Clear the published folders of what a killed driver was about to write there; the caller holds the run's lock."""
    publish.sweep_temporaries(run.synth_pool)
    for label in view.get("iterations", {}):
        for stage in PUBLISHED:
            publish.sweep_temporaries(run.stage_dir(label, stage))


def _all_published(verdict: Verdict, run: RunPaths, events: list[vouched.Event], labels: tuple[str, ...]) -> None:
    """What the stages of these iterations, and the staging, published, against the digests on record."""
    done = vouched.finished(events)
    for label in labels:
        for stage in PUBLISHED:
            if (label, stage) in done:
                problems = _folder(run.stage_dir(label, stage), done[label, stage].get("manifest"))
                if stage == "train":
                    problems = [p for p in problems if not _pruned(p, done[label, stage])]
                    spec = run.run / "specs" / f"{label}-train.yaml"
                    if not vouched.is_on_record(spec, done[label, stage].get("spec_sha256")):
                        problems.append(f"changed: {run.rel(spec)}")
                elif stage == "inference":
                    problems = _scored(problems, done.get((label, "evaluate")), run.stage_dir(label, stage))
                verdict.count("published folders")
                verdict.problems += [plain_text(f"{label}/{stage}: {p}", 300) for p in problems]
    if (run.synth_pool / MANIFEST_NAME).exists() or ("run", "prestage") in done:
        problems = _folder(run.synth_pool, done.get(("run", "prestage"), {}).get("manifest"))
        verdict.count("published folders")
        verdict.problems += [plain_text(f"synth_pool: {p}", 300) for p in problems if p.split(": ", 1)[-1] not in _REFRESHED]


def _folder(folder: Path, manifest: str | None) -> list[str]:
    """What does not hold of a published folder; what a killed driver left there is cleared away by the next one."""
    if not vouched.is_on_record(folder / MANIFEST_NAME, manifest):
        return [f"{MANIFEST_NAME} is not the one on record"]
    try:
        problems = verify_manifest(folder)
    except DeftError as error:
        return [error.message]
    return [p for p in problems if not publish.TEMPORARY.fullmatch(Path(p.removeprefix(_SURPLUS)).name)]


def _pruned(problem: str, trained: dict[str, Any]) -> bool:
    """Whether a missing file is a checkpoint that the evaluation did not choose between."""
    what, _, name = problem.partition(": ")
    kept = [Path(trained["state"][key]).name for key in ("ckpt_best_val", "ckpt_latest")]
    return what == "missing" and name.startswith("model_") and name.endswith(".pth") and name not in kept


def _scored(problems: list[str], evaluated: dict[str, Any] | None, folder: Path) -> list[str]:
    """Findings on an inference folder, with what the evaluation added there judged by its voucher."""
    if evaluated is None:  # an evaluation that was killed may have added anything; it is done again
        return [p for p in problems if not p.removeprefix(_SURPLUS).startswith(_ADDED_BY_EVALUATE)]
    if not vouched.is_on_record(folder / vouched.VOUCHER, evaluated.get("voucher")):
        return [*problems, f"{vouched.VOUCHER} is not the one on record"]
    added = evaluate.read_voucher(folder)["files"]
    changed = [f"changed: {name}" for name, digest in added.items() if not vouched.is_on_record(folder / name, digest)]
    return [p for p in problems if p.removeprefix(_SURPLUS) not in (*added, vouched.VOUCHER)] + changed


def _evaluated(verdict: Verdict, ctx: RunContext, label: str, it: dict[str, Any]) -> None:
    folder = ctx.run.stage_dir(label, "inference")
    reports = {}
    for choice in CHOICES:
        report, _frame = evaluate.kpi_report(ctx, folder / choice / "inference.csv", "kpi")
        written = read_json(folder / choice / "kpi.json", what="kpi.json")
        reports[choice] = report
        verdict.require(_same(report, written), "KPIs recomputed from inference.csv", f"{label}/{choice}: kpi.json differs")
    judged = _judged(verdict, ctx, label, reports)
    chosen = evaluate.choose(reports, judged)
    if judged:
        found = primary_metric.state_of(judged[chosen]) | {"kpi_met": judged[chosen].met}
        same = all(it.get(key) == value for key, value in found.items())
        verdict.require(same, "primary metrics", f"{label}: the primary metric on record is not the one judged again")
    point = reports[chosen]["target_point"]
    verdict.require(chosen == it["chosen"], "checkpoint choices", f"{label}: {chosen} should have been chosen")
    for key in ("far_fraction", "recall_fraction", "threshold"):
        verdict.require(
            point[key] == it[key], "operating points", f"{label}: {key} on record is {it[key]!r}, computed {point[key]!r}"
        )
    checkpoint = ctx.path(it["best_ckpt_path"])
    ok = checkpoint.is_file() and sha256_file(checkpoint) == it["best_ckpt_sha256"]
    verdict.require(ok, "checkpoints by digest", f"{label}: {it['best_ckpt_path']} is not the one on record")


def _judged(verdict: Verdict, ctx: RunContext, label: str, reports: dict[str, Any]) -> dict[str, Evaluation]:
    """The primary metric of both checkpoints judged again; a command's values are taken as they are on record."""
    plan, out = ctx.config.primary_metric, {}
    for choice in CHOICES if plan is not None else ():
        record = read_checked(ctx.run.stage_dir(label, "inference") / choice / primary_metric.RECORD, "metric_result")
        assert plan is not None
        out[choice] = primary_metric.judge_again(plan, reports[choice], record)
        verdict.require(_same(out[choice].as_dict(), record), "metrics judged again", f"{label}/{choice}: metric.json differs")
    return out


def _same(a: Any, b: Any) -> bool:
    import json

    return bool(json.loads(json.dumps(a, sort_keys=True)) == b)


def _assembled(verdict: Verdict, ctx: RunContext, label: str, it: dict[str, Any]) -> None:
    import csv

    rows_csv, provenance_csv = dataset.files(ctx, label)
    rows, provenance = (sum(1 for _ in csv.reader(p.open(encoding="utf-8", newline=""))) - 1 for p in (rows_csv, provenance_csv))
    before = len(dataset.previous_training(ctx, label).frame)
    with (ctx.run.stage_dir(label, "data_mining") / "knn_summary.csv").open(encoding="utf-8", newline="") as handle:
        summary = next(csv.DictReader(handle))
    kept = int(summary["kept_count"])
    verdict.require(
        rows == provenance == it["train_rows"],
        "row counts",
        f"{label}: {rows} rows, {provenance} provenance rows, {it['train_rows']} on record",
    )
    verdict.require(rows == before + kept, "growth by what was mined", f"{label}: {before} + {kept} mined is not {rows}")
    rejected = sum(int(v) for k, v in summary.items() if k.startswith("rejected_") and k != "rejected_count")
    balanced = int(summary["candidate_count"]) == kept + rejected and rejected == int(summary["rejected_count"])
    verdict.require(balanced, "mining balances", f"{label}: candidates, kept and rejected do not balance")


def _handed_over(verdict: Verdict, run: RunPaths, events: list[dict[str, Any]]) -> None:
    handed = [e for e in events if e["stage"] == "handoff" and e["status"] == "ok"]
    if handed:
        for path, key in ((run.best_model, "best_model_sha256"), (run.best_spec, "best_spec_sha256")):
            ok = path.is_file() and sha256_file(path) == handed[-1]["data"][key]
            verdict.require(ok, "hand-over files", f"{path.name} is not the one on record")
    if (run.holdout / MANIFEST_NAME).exists():
        verdict.count("published folders")
        recorded = handed[-1]["data"].get("holdout_manifest") if handed else None
        verdict.problems += [plain_text(f"holdout: {p}", 300) for p in _folder(run.holdout, recorded)]
