"""The Pre-Flight Summary: what a person reads before the go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deft_aoi.contract.commands import absolute_command
from deft_aoi.contract.text import printable, shown_label
from deft_aoi.loop.checks.registration import line as registration_line
from deft_aoi.loop.config import RunConfig
from deft_aoi.loop.plan import Plan

if TYPE_CHECKING:
    from deft_aoi.loop.checks.session import Finding

_SHOWN = (
    ("kpi_target", "KPI target"),
    ("max_new_escapes", "new escapes allowed"),
    ("threshold_rule", "threshold rule"),
    ("min_recall_support_pct", "recall to be supported, %"),
    ("stop_rule", "stop rule"),
    ("max_iterations", "max iterations"),
    ("engine", "engine"),
    ("platform", "platform"),
    ("training_epochs", "epochs per training"),
    ("seed", "seed"),
    ("mining", "rows proposed by"),
    ("encoder", "mining encoder"),
    ("encoder_checkpoint", "encoder checkpoint"),
    ("top_k_per_target", "neighbours per target"),
    ("top_k_per_label", "targets per label, at most"),
    ("min_similarity", "min similarity"),
    ("automl_policy", "automl policy"),
)
_SHOWN_WHERE_SAID = (
    ("num_gpus", "GPUs of a training"),
    ("gpu_ids", "GPUs by id"),
    ("tao_version", "specs checked for TAO"),
    ("model_path", "SigLIP model"),
    ("hard_rows", "hard rows an iteration"),
    ("air_gapped", "air-gapped"),
    ("allow_near_duplicates", "near-duplicates in base training allowed"),
    ("defect_labels", "defects although the name means good"),
    ("queue_limit", "minutes a job may queue"),
    ("score_noise", "score noise"),
)
"""Shown where the user or the engine decided; a default that changes nothing would only lengthen the Summary."""
_MARK = {"ok": "ok  ", "warn": "warn", "missing": "MISS", "stop": "STOP"}

_COMMAND_WIDTH = 300
"""Characters of a metric command's element on one line."""


def _value(name: str, value: Any) -> str:
    if name == "max_new_escapes" and value is None:
        return "as many as newly caught"
    if name == "queue_limit" and value is None:
        return "no limit"
    return "none" if value is None else printable(value, 60)


def render(plan: Plan) -> str:
    """The Summary of a plan that passed its checks: run, data, augmentation, images, warnings, digest, the go."""
    config, sources, inputs = plan["config"], plan["sources"], plan["inputs"]
    lines = ["DEFT AOI Pre-Flight Summary", f"workspace  {printable(plan['workspace'], 200)}", "", "Run"]
    lines += [f"  {title:28} {_value(name, config[name]):32} ({sources[name]})" for name, title in _SHOWN]
    for name, title in _SHOWN_WHERE_SAID:
        needed = {"num_gpus": config["engine"] == "tao", "tao_version": config["engine"] == "tao"}
        needed["hard_rows"] = config["mining"] != "knn"
        needed["queue_limit"] = config["platform"] in ("slurm", "kubernetes")
        if sources[name] == "user" or needed.get(name):
            lines.append(f"  {title:28} {_value(name, config[name]):32} ({sources[name]})")
    for key, value in sorted(config["platform_options"].items()):
        lines.append(f"  {printable(key, 28):28} {_value(key, value):32} (user)")
    if champion := config.get("continue_from"):
        text = printable(f"{champion['iteration']} of {champion['run']} ({champion['model']})", 200)
        lines.append(f"  {'champion, the baseline':28} {text} (user)")
    lines += metric_lines(RunConfig(config, sources))
    if config["overrides"]:
        lines.append(f"  {'spec overrides':28} {printable(', '.join(config['overrides']), 150)} (user)")
    if config["engine"] != plan["spec_engine"]:
        lines.append(
            f"  NOTE: the spec asks for the {plan['spec_engine']} engine; {config['engine']} was chosen with --engine. "
            "Its numbers and checkpoints are not comparable."
        )
    elif config["engine"] == "embedded":
        lines.append("  NOTE: the embedded engine is our small siamese net, not NVIDIA TAO; its checkpoints are not TAO's.")
    lines += ["", "Dataset"]
    for name, data in plan["dataset"].items():
        labels = ", ".join(f"{shown_label(k, 24)} {v}" for k, v in list(data["labels"].items())[:10])
        lines.append(f"  {name:12} {data['rows']:7} rows  {labels}")
    lines.append(f"  {'pool':12} {inputs['pool']['rows']:7} rows  (append-only; growth is welcome)")
    if plan.get("registration"):
        lines.append(f"  {registration_line(plan['registration'])}")
    staging = plan["staging"]
    types = ", ".join(f"{shown_label(k, 24)} {v}" for k, v in list(staging.get("by_type", {}).items())[:9])
    lines += ["", "Augmentation", f"  {staging.get('pairs', 0)} pre-generated pairs  {types}".rstrip()]
    lines += ["", "Images"]
    for name, image in plan["images"].items():
        lines.append(f"  {name}: {printable(image['reference'], 120)} {printable(image.get('id') or 'not present yet', 80)}")
    if not plan["images"]:
        lines.append("  none needed")
    lines += ["", f"Estimate   {_duration(staging['duration_sec'])}, {staging['disk_bytes'] / 1e6:.0f} MB of disk"]
    warnings = [f for f in plan["findings"] if f["level"] == "warn"]
    if warnings:
        lines += ["", "Warnings"]
        lines += [f"  - {w['text']}" + (f" → {w['fix']}" if w["fix"] else "") for w in warnings]
    digest = plan["digest"]
    lines += [
        "",
        f"Plan digest {digest}",
        "Nothing has been written to the workspace. To start: answer with a clear go, or run in a terminal",
        f"  {absolute_command('approve')} {digest[:12]}",
    ]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"


def render_findings(findings: list[Finding]) -> str:
    """The consolidated list of what is missing or wrong, each with its fix; checks that passed are counted."""
    bad = [f for f in findings if f.level != "ok"]
    lines = [f"{len(findings) - len(bad)} checks passed"]
    for f in bad:
        lines.append(
            f"{_MARK[f.level]} ({f.check}) {printable(f.text, 300)}" + (f"\n       → {printable(f.fix, 200)}" if f.fix else "")
        )
    return "\n".join(lines)


def metric_lines(config: RunConfig) -> list[str]:
    """What a person approves: every criterion, and the command element by element."""
    plan = config.primary_metric
    if plan is None:
        return []
    lines = [f"  {'primary metric':28} {plan.primary.text} (user): selects and stops"]
    lines += [f"  {'constraint':28} {c.text} (user)" for c in plan.constraints]
    if not plan.constraints:
        lines.append(f"  {'constraints':28} none (user)")
    if plan.evaluator == "argv":
        lines.append(
            f"  {'metric command':28} for each scored checkpoint, at most {plan.time_limit_sec:g} s, on the driver's host:"
        )
        for part in plan.argv:
            shown = printable(part, 20 * _COMMAND_WIDTH)
            lines += [f"  {'':28} | {shown[i : i + _COMMAND_WIDTH]}" for i in range(0, max(len(shown), 1), _COMMAND_WIDTH)]
    elif plan.evaluator == "result_file":
        lines.append(f"  {'metric result file':28} run/metric/<iteration>/<checkpoint>/{printable(plan.result_file, 200)}")
    else:
        lines.append(f"  {'metric values':28} the KPI report")
    if config.sources["kpi_target"] != "user":
        lines.append("  NOTE: of the KPI target only the recall counts (it sets the threshold); its FAR bound was not asked for.")
    return lines
