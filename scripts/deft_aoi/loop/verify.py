"""Does the run's record agree with its files? Chain, snapshot, digests, counts, and every KPI computed again.

Every check runs, whatever the others found, and each finding names its file. What is computed again from files is computed
only where their digests hold: a changed file is one finding, not ten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deft_aoi.analysis import metric, metric_values
from deft_aoi.analysis.dataset_files import provenance_path
from deft_aoi.analysis.metric import Evaluation
from deft_aoi.contract import stages
from deft_aoi.contract.errors import DeftError, UsageError
from deft_aoi.contract.files import read_json, sha256_file
from deft_aoi.contract.paths import RunPaths
from deft_aoi.contract.schema import read_checked
from deft_aoi.contract.text import printable
from deft_aoi.loop import gate, handover, published
from deft_aoi.loop.context import RunContext
from deft_aoi.loop.plan import RULES, require_unchanged
from deft_aoi.loop.stages import dataset, evaluate, handoff, hard_rows
from deft_aoi.loop.stages.inference import CHOICES
from deft_aoi.record import log, provenance, state

HEAD_DIGITS = 32
"""Of the last event's SHA-256: enough that nobody finds another record with the same."""


@dataclass
class Verdict:
    """What was checked, what does not hold, what nothing vouches for, and by which ``head`` the record is known again."""

    checked: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)
    head: str = ""

    @property
    def holds(self) -> bool:
        """Whether everything holds; nothing checked is a failure."""
        return not self.problems and bool(self.checked)

    def require(self, holds: bool, what: str, problem: str) -> None:
        """Count a check, and keep the problem when it fails."""
        self.add(what, () if holds else (problem,))

    def add(self, what: str, problems: Iterable[str], number: int = 1) -> bool:
        """Count checks, keep what they found; whether they found nothing."""
        self.checked[what] = self.checked.get(what, 0) + number
        found = [printable(p, 300) for p in problems]
        self.problems += found
        return not found

    def attempt(self, what: str, check: Callable[..., None], *args: Any) -> None:
        """Run a check; that it cannot be made is a finding, and the other checks go on."""
        try:
            check(self, *args)
        except DeftError as error:
            found = f" (found: {error.found})" if error.found else ""
            self.problems.append(printable(f"{what}: {error.message}{found}", 300))
        except OSError as error:
            self.problems.append(printable(f"{what}: {error.strerror}: {error.filename}", 300))

    def text(self) -> str:
        """The verdict in at most fifteen lines."""
        done = ", ".join(f"{n} {what}" for what, n in self.checked.items())
        lines = ["files: " + ", ".join(f"{n} {what}" for what, n in self.files.items())] if self.files else []
        if self.strangers:
            more = f" … and {len(self.strangers) - 5} more" if len(self.strangers) > 5 else ""
            lines.append(f"no part of a run, not checked: {', '.join(printable(s, 120) for s in self.strangers[:5])}{more}")
        if self.holds:
            lines.append(f"head of the record: {self.head} (keep it elsewhere; see --head)")
            return "\n".join([f"everything holds: {done}", *lines])
        left = len(self.problems) - published.SHOWN
        found = [f"  {p}" for p in self.problems[: published.SHOWN]] + ([f"  … and {left} more"] if left > 0 else [])
        return "\n".join([f"{len(self.problems)} things do not hold ({done})", *found, *lines[-1:]])

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "holds": self.holds,
            "checked": self.checked,
            "problems": self.problems,
            "files": self.files,
            "strangers": self.strangers,
            "head": self.head,
        }


def verify_run(results_dir: Path, head: str | None = None) -> Verdict:
    """Check one run.

    Args:
        results_dir: its folder.
        head: what an earlier check named as the record's head: chain and files that were all written anew since then agree
            with one another, but not with it.

    Raises:
        UsageError: not a run's folder, or not a head.
        HardStop: the record itself is damaged.
    """
    run = RunPaths(Path(results_dir).expanduser().resolve())
    if not run.log.exists():
        raise UsageError(f"{printable(run.root.name)} is not a run", expected="a folder with loop_log.jsonl", found=str(run.root))
    verdict = Verdict()
    events = log.read(run.root)
    verdict.add("events in an unbroken chain", (), len(events))
    view, on_disk = state.fold(events), run.state.read_bytes() if run.state.exists() else b""
    verdict.require(
        on_disk == state.snapshot_bytes(events), "snapshot equal to the fold", "deft_state.json is not the fold of the log"
    )
    verdict.head = f"{view['seq']}-{view['head'][:HEAD_DIGITS]}"
    if head is not None:
        verdict.add("head kept elsewhere", _not_that([*(e["prev"] for e in events[1:]), view["head"]], head))
    named = provenance.on_record(run, events)
    moving = published.stages_in_progress(events)
    single = {path: it for path, it in named.items() if published.is_single_file(path) and path not in stages.POOL_FILES}
    verdict.add("single files on record", published.single_problems(run, single, moving), len(single))
    if published.is_staged(run, named):
        verdict.add("published folders", published.staged_problems(run, named, moving))
    intact = {
        (label, stage): verdict.add("published folders", published.folder_problems(run, view, named, label, stage))
        for label, it in view["iterations"].items()
        for stage in stages.PUBLISHED
        if stage in it["stages"]
    }
    if stages.HOLDOUT in named:
        intact["run", "holdout"] = verdict.add("published folders", published.holdout_problems(run, named))
    if stages.UNREGISTERED in named:
        verdict.add("published folders", published.unregistered_problems(run, named))
    for label, it in view["iterations"].items():
        if "evaluate" in it["stages"]:
            whole = verdict.add("vouchers of KPI files", published.evaluate_manifest_problems(run, label, named))
            intact[label, "evaluate"] = whole and intact.get((label, "inference"), False)
            checkpoint = run.root / it["best_ckpt_path"]
            ok = checkpoint.is_file() and sha256_file(checkpoint) == it["best_ckpt_sha256"]
            verdict.require(ok, "checkpoints by digest", f"{label}: {it['best_ckpt_path']} is not the one on record")
    verdict.attempt("plan", _computed_again, run, view, intact)
    verdict.attempt("report", _reported, run, named)
    verdict.files, verdict.strangers = published.inventory(run, named)
    return verdict


def _not_that(digests: list[str], head: str) -> list[str]:
    """Whether the event that a head names is another one now; each event's digest chains all before it."""
    if not re.fullmatch(rf"[1-9][0-9]{{0,8}}-[0-9a-f]{{{HEAD_DIGITS},64}}", head):
        raise UsageError(
            "not a head of a record",
            expected=f"what verify_run.py printed, as in 57-3f0c…: at least {HEAD_DIGITS} hex digits",
            found=printable(head, 80),
            hint="best_model.json has one too: record_head, its seq and its digest",
        )
    number, _, digest = head.partition("-")
    if int(number) > len(digests):
        return [f"the record has {len(digests)} events and had {number}: it was cut off or written anew"]
    same = digests[int(number) - 1].startswith(digest)
    return [] if same else [f"event {number} is not the one that was there: it was written anew"]


def _computed_again(verdict: Verdict, run: RunPaths, view: dict[str, Any], intact: dict[tuple[str, str], bool]) -> None:
    """Everything that follows from the published files, where those are what they were."""
    plan, config = gate.load_plan(run, any_rules=True)
    if plan.get("rules", 1) != RULES:
        verdict.add(f"judged by rules {plan.get('rules', 1)}, not by {RULES}: figures are not computed again", ())
        return
    ctx = RunContext(run, run.workspace, plan, config, lambda _line: None, lambda _line: None)
    verdict.attempt("inputs", _inputs, ctx)
    for label, it in view["iterations"].items():
        if intact.get((label, "evaluate")):
            verdict.attempt(f"{label}/evaluate", _evaluated, ctx, label, it)
        if all(intact.get(key) for key in ((label, "dataset"), (label, "data_mining"))):
            verdict.attempt(f"{label}/dataset", _assembled, ctx, label, it)
    if intact.get(("run", "holdout")) and run.best_model.is_file():
        verdict.attempt("hold-out", _holdout, ctx)


def _inputs(verdict: Verdict, ctx: RunContext) -> None:
    """The customer's files are the ones that the plan names (the pool may have grown)."""
    verdict.add("inputs of the plan", (), len(ctx.plan["inputs"]))
    require_unchanged(ctx.plan, ctx.workspace, ctx.config, ctx.digest_cache)


def _evaluated(verdict: Verdict, ctx: RunContext, label: str, it: dict[str, Any]) -> None:
    folder, reports = ctx.run.stage_dir(label, "inference"), {}
    for choice in CHOICES:
        report, _frame = evaluate.kpi_report(ctx, folder / choice / "inference.csv", "kpi")
        written = read_json(folder / choice / "kpi.json", what="kpi.json")
        reports[choice] = report
        verdict.require(_same(report, written), "KPIs recomputed from inference.csv", f"{label}/{choice}: kpi.json differs")
    judged = _judged(verdict, ctx, label, reports)
    chosen = evaluate.choose_checkpoint(reports, judged)
    if judged:
        found = metric.state_of(judged[chosen])
        same = all(it.get(key) == value for key, value in found.items())
        verdict.require(same, "primary metrics", f"{label}: the primary metric on record is not the one judged again")
    point = reports[chosen]["target_point"]
    verdict.require(chosen == it["chosen"], "checkpoint choices", f"{label}: {chosen} should have been chosen")
    found = evaluate.judgement(reports[chosen], judged.get(chosen))
    if "far_at_99_fraction" not in it:  # judged by a version that did not keep it
        found.pop("far_at_99_fraction", None)
    same = all(it.get(key) == value for key, value in found.items())
    verdict.require(same, "verdicts", f"{label}: the verdict on record is not the one judged again")
    for key in ("far_fraction", "recall_fraction", "threshold"):
        verdict.require(
            point[key] == it[key], "operating points", f"{label}: {key} on record is {it[key]!r}, computed {point[key]!r}"
        )


def _judged(verdict: Verdict, ctx: RunContext, label: str, reports: dict[str, Any]) -> dict[str, Evaluation]:
    """The primary metric of both checkpoints judged again; a command's values are taken as they are on record."""
    plan, out = ctx.config.primary_metric, {}
    for choice in CHOICES if plan is not None else ():
        record = read_checked(ctx.run.stage_dir(label, "inference") / choice / metric_values.RESULT_FILE, "metric_result")
        assert plan is not None
        out[choice] = metric_values.judge_again(plan, reports[choice], record)
        verdict.require(_same(out[choice].as_dict(), record), "metrics judged again", f"{label}/{choice}: metric.json differs")
    return out


def _same(a: Any, b: Any) -> bool:
    import json

    return bool(json.loads(json.dumps(a, sort_keys=True)) == b)


def _assembled(verdict: Verdict, ctx: RunContext, label: str, it: dict[str, Any]) -> None:
    import csv

    rows_csv = dataset.rows_csv(ctx, label)
    provenance_csv = provenance_path(rows_csv)
    rows, provenance = (sum(1 for _ in csv.reader(p.open(encoding="utf-8", newline=""))) - 1 for p in (rows_csv, provenance_csv))
    before = len(dataset.previous_training(ctx, label).frame)
    with (ctx.run.stage_dir(label, "data_mining") / "knn_summary.csv").open(encoding="utf-8", newline="") as handle:
        summary = next(csv.DictReader(handle))
    found = hard_rows.counts(ctx.run.stage_dir(label, "data_mining"))
    kept = int(summary["kept_count"]) + (int(found["kept_count"]) if found else 0)
    verdict.require(
        rows == provenance == it["train_rows"],
        "row counts",
        f"{label}: {rows} rows, {provenance} provenance rows, {it['train_rows']} on record",
    )
    verdict.require(rows == before + kept, "growth by what was mined", f"{label}: {before} + {kept} mined is not {rows}")
    rejected = sum(int(v) for k, v in summary.items() if k.startswith("rejected_") and k != "rejected_count")
    balanced = int(summary["candidate_count"]) == int(summary["kept_count"]) + rejected and rejected == int(
        summary["rejected_count"]
    )
    if found:
        passed = sum(int(n) for name, n in found.items() if name.startswith("rejected_") and name != "rejected_count")
        balanced &= int(found["looked_at_count"]) == int(found["kept_count"]) + passed
    verdict.require(balanced, "mining balances", f"{label}: candidates, kept and rejected do not balance")


def _holdout(verdict: Verdict, ctx: RunContext) -> None:
    """The hold-out's figures computed again from its scores, at the threshold that was handed over."""
    body, folder = handover.read_best_model(ctx.run), ctx.run.holdout
    best = {**ctx.iteration(body["iteration"]), "label": body["iteration"]}
    figures, base, pair = handoff.measure(ctx, folder / "inference.csv", best), None, None
    same = _same(figures, read_checked(folder / "holdout.json", "holdout"))
    if best["label"] != handoff.BASELINE:
        first = ctx.iteration(handoff.BASELINE)
        base = handoff.measure(ctx, folder / handoff.BASELINE / "inference.csv", first)
        pair = handoff.paired(ctx, folder, first, best)
        same &= _same(base, read_checked(folder / handoff.BASELINE / "holdout.json", "holdout"))
        same &= _same(pair, read_checked(folder / handoff.COMPARISON, "comparison"))
    same &= _same(handoff.handed_figures(figures, base, pair), body["holdout"])
    verdict.require(same, "hold-outs recomputed", "best_model.json: the hold-out's figures are not those of its scores")


def _reported(verdict: Verdict, run: RunPaths, named: dict[str, provenance.RecordedDigest]) -> None:
    """The page is the one on record or, rendered since (the reporter does), what the files give; findings hold."""
    from deft_aoi.report import findings
    from deft_aoi.report.render import render_html

    known = named.get(run.rel(run.report))
    if known is None:
        return
    page = run.report.read_bytes() if run.report.is_file() else b""
    same = bool(page) and (sha256_file(run.report) == known.digest or page == render_html(run.root).encode())
    verdict.require(same, "reports", f"{run.report.name} is not what the run's files give; render_report.py writes it again")
    if (run.run / findings.FILE_NAME).exists():
        _held, refused = findings.read(run)
        verdict.add("findings of the reporter", refused)
