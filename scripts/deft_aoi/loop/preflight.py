"""Pre-flight: eleven read-only checks, one consolidated list of what is missing, one plan (DESIGN section 10).

Nothing here writes to the workspace, to Docker or to any cache of the workspace; decoded digests are cached in the
user's own cache folder, and the pending plan goes to the user's state folder.
"""

from __future__ import annotations

import importlib.util
import os
import platform as host
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deft_aoi.contract import plans
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked, DeftError, HardStop
from deft_aoi.contract.paths import Workspace, cache_home
from deft_aoi.contract.schema import bundle_root
from deft_aoi.contract.text import plain_text
from deft_aoi.loop import dataset_view, primary_metric
from deft_aoi.loop.config import RunConfig, effective_spec
from deft_aoi.loop.dataset_view import Split
from deft_aoi.loop.plan import Plan, configuration, inputs, plan_digest
from deft_aoi.loop.specs import refuse_outside, train_spec

REQUIRED_MODULES = ("numpy", "pandas", "pyarrow", "yaml", "jinja2", "jsonschema", "PIL", "scipy", "matplotlib", "omegaconf")
SPACE_FACTOR = 1.2
"""Free space must be this many times the estimate (issue 3)."""


@dataclass(frozen=True)
class Finding:
    """One line of the checks.

    Attributes:
        check: 1 to 11.
        level: ``ok``, ``warn``, ``missing`` (exit 4) or ``stop`` (exit 3).
        text: what was found.
        fix: what to do about it.
    """

    check: int
    level: str
    text: str
    fix: str = ""


@dataclass
class _Session:
    """What the checks hand on to one another."""

    workspace: Workspace
    given: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    config: RunConfig | None = None
    spec: specs.Spec = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    identities: dict[str, Any] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)
    staging: dict[str, Any] = field(default_factory=dict)
    resume: str | None = None
    first_error: DeftError | None = None

    def add(self, check: int, level: str, text: str, fix: str = "") -> None:
        self.findings.append(Finding(check, level, text, fix))

    def guard(self, check: int, work: Callable[[], None]) -> bool:
        """Run one check; a :class:`DeftError` becomes a finding."""
        try:
            work()
            return True
        except DeftError as error:
            self.first_error = self.first_error or error
            level = "missing" if isinstance(error, Blocked) else "stop"
            detail = f" (found: {error.found})" if error.found else ""
            self.add(check, level, f"{error.message}{detail}", error.hint or error.expected)
            return False


def identity_cache() -> Path:
    """Where digests of decoded images are cached before a run exists."""
    return cache_home() / "digests"


def run_checks(workspace: Workspace, given: dict[str, Any]) -> tuple[Plan | None, list[Finding], DeftError | None]:
    """Resolve everything and check it.

    Args:
        workspace: the workspace.
        given: what the user said; see :func:`deft_aoi.loop.config.resolve`.

    Returns:
        ``(plan, findings, error)``: the plan is ``None`` and ``error`` the first error when a check did not pass.

    Raises:
        UsageError: the KPI target or another parameter cannot be read.
    """
    session = _Session(workspace, given)
    session.guard(1, lambda: _check_workspace(session))
    if workspace.baseline_spec.is_file():
        session.config, user_spec = configuration(workspace, given)  # a UsageError is the caller's, not a finding
        session.spec = effective_spec(user_spec, session.config)
    session.guard(2, lambda: _check_bundle(session))
    if session.config is not None:
        config = session.config
        session.guard(3, lambda: _check_credentials(session, config))
        session.guard(4, lambda: _check_platform(session, config))
        session.guard(5, lambda: _check_images(session, config))
        session.guard(7, lambda: refuse_outside(workspace, session.spec))
        session.guard(8, lambda: _check_pregen(session, config))
        splits_ok = session.guard(11, lambda: _check_data(session))
        session.guard(7, lambda: _check_spec(session, config))
        session.guard(9, lambda: _check_gpus(session, config))
        if splits_ok:
            session.guard(10, lambda: _check_space(session, config))
            session.guard(11, lambda: _check_leakage(session))
            session.guard(11, lambda: _check_metric(session, config))
            _check_statistics(session, config)
    session.findings.sort(key=lambda f: f.check)
    if session.first_error is not None or session.config is None:
        return None, session.findings, session.first_error or Blocked("the baseline spec is missing")
    plan = _build_plan(session, session.config)
    plans.write_pending(plan)
    return plan, session.findings, None


def _build_plan(session: _Session, config: RunConfig) -> Plan:
    plan: Plan = {
        "version": 1,
        "workspace": str(session.workspace.root),
        "config": config.as_dict(),
        "sources": dict(config.sources),
        "inputs": inputs(session.workspace, session.spec, session.splits, identity_cache(), metric=config.primary_metric),
        "images": session.images,
        "dataset": {name: {"rows": len(s.frame), "labels": s.label_counts()} for name, s in session.splits.items()},
        "staging": session.staging,
        "spec_engine": specs.engine_for(session.spec),
        "findings": [f.__dict__ for f in session.findings],
        "resume": session.resume,
        "host": {"node": host.node(), "python": host.python_version()},
    }
    plan["digest"] = plan_digest(plan)
    return plan


# --- the checks ---------------------------------------------------------------------------------------------------


def _check_workspace(session: _Session) -> None:
    ws = session.workspace
    missing = [p for p in (ws.baseline_spec, ws.training_csv, ws.validation_csv, ws.kpi_csv, ws.pool_csv) if not p.is_file()]
    if missing:
        raise HardStop(
            "the workspace is not complete",
            expected="specs/baseline_spec.yaml, train/base/*.csv, kpi/testing_set.csv, augmentation/mining_pool/mining_pool.csv",
            found="missing: " + ", ".join(ws.rel(p) for p in missing),
            hint="make_workspace.py builds one from your data; check_data.py lists what is missing",
        )
    from deft_aoi.record import fsprobe

    probe = fsprobe.describe(ws.root)
    session.add(1, "warn" if probe.network else "ok", f"workspace on {probe.text}")
    unfinished = [r for r in sorted(ws.results.glob("run_*")) if (r / "loop_log.jsonl").exists() and not _finished(r)]
    if unfinished:
        session.resume = str(unfinished[-1])
        session.add(1, "warn", f"an unfinished run exists: {unfinished[-1].name}", f"run_loop.py --results-dir {unfinished[-1]}")


def _finished(run: Path) -> bool:
    from deft_aoi.record.state import load_state

    try:
        return load_state(run).get("status") not in ("running", "error")
    except DeftError:
        return True  # a damaged record is not resumed; verify_run.py and repair_run.py are for it


def _check_bundle(session: _Session) -> None:
    absent = [m for m in REQUIRED_MODULES if importlib.util.find_spec(m) is None]
    config = session.config
    if (
        config is not None
        and config.engine == "embedded"
        and config.platform == "local"
        and importlib.util.find_spec("torch") is None
    ):
        absent.append("torch")
    if absent:
        raise Blocked(f"Python packages are missing: {', '.join(absent)}", hint=f"{sys.executable} scripts/setup_env.py")
    broken = bundle_problems()
    if broken:
        raise HardStop("the bundle is not complete", found=", ".join(broken[:5]), hint="reinstall the skill")
    session.add(2, "ok", f"Python {host.python_version()}, packages and bundle complete")


def bundle_problems() -> list[str]:
    """Files that the bundle's manifest lists and that are missing or changed; none in a checkout without a manifest."""
    from deft_aoi.contract.files import read_json, sha256_file

    manifest = bundle_root() / "MANIFEST.json"
    if not manifest.is_file():
        return [
            n for n in ("specs/embedded_spec.yaml", "specs/baseline_spec.yaml", "schemas") if not (bundle_root() / n).exists()
        ]
    files = read_json(manifest, what="bundle manifest").get("files", {})
    return [n for n, digest in files.items() if not (bundle_root() / n).is_file() or sha256_file(bundle_root() / n) != digest]


def _check_credentials(session: _Session, config: RunConfig) -> None:
    from deft_aoi.platforms import credentials

    needed = credentials.needed(config.platform, config.engine, config.encoder, air_gapped=config.air_gapped)
    present = credentials.present(session.workspace.env_file)
    absent = [" or ".join(names) for names in needed if not any(n in present for n in names)]
    if absent:
        session.add(
            3, "warn", f"not set: {', '.join(absent)}; needed only where something must be pulled", "set it, or pre-stage"
        )
    else:
        session.add(3, "ok", "no credential is missing")


def _check_platform(session: _Session, config: RunConfig) -> None:
    from deft_aoi.platforms import shared_path
    from deft_aoi.platforms.base import probe

    options, ws = platform_only(config.platform_options), session.workspace
    for finding in (*probe(config.platform, options), *shared_path.check(config.platform, options, ws.root, ws.baseline_spec)):
        text, fix = plain_text(finding.text, 200), plain_text(finding.fix, 200)
        if finding.level in ("missing", "stop"):
            kind = Blocked if finding.level == "missing" else HardStop
            raise kind(f"{config.platform}: {text}", hint=fix)
        session.add(4, finding.level, text, fix)


def platform_only(options: Any) -> dict[str, Any]:
    """The options that the platform itself takes (the engine's and the image's are not its own)."""
    return {k: v for k, v in dict(options).items() if k not in ("tao_python", "image")}


def _check_images(session: _Session, config: RunConfig) -> None:
    from deft_aoi.engines import images

    session.images = images.resolve_for(config.platform, config.engine, dict(config.platform_options))
    for name, image in session.images.items():
        state = "present" if image.get("id") else "to be pulled after approval"
        session.add(6, "ok" if image.get("id") else "warn", f"image {name}: {image['reference']} ({state})")
    if not session.images:
        session.add(5, "ok", f"engine {config.engine} on {config.platform}: no image needed")


def _check_spec(session: _Session, config: RunConfig) -> None:
    rows = {name: len(split.frame) for name, split in session.splits.items()}
    if config.engine == "tao":
        from deft_aoi.engines.tao_schema import check_tao_spec

        # As TAO will see it: without our own `deft` section, and once with what that section changes for fine-tuning.
        ws = session.workspace
        for pretrained in (None, ws.root / "previous.pth"):
            derived = train_spec(
                ws, session.spec, config, train_csv=ws.training_csv, train_images=ws.kpi_images, pretrained=pretrained
            )
            check_tao_spec(derived, config.tao_version, rows)
    else:
        check_embedded_spec(session.workspace, session.spec, config, rows)
    session.add(7, "ok", f"spec accepted for {config.engine}, backbone {plain_text(specs.backbone_type(session.spec))}")


def check_embedded_spec(workspace: Workspace, spec: specs.Spec, config: RunConfig, rows: dict[str, int]) -> None:
    """Load the spec exactly as the embedded engine will, without running anything.

    Raises:
        HardStop: an unknown key, a wrong type, a rule of the engine, or fewer rows than the batch size.
    """
    import subprocess
    import tempfile

    batch = int(specs.get(spec, "dataset.classify.batch_size") or 8)
    if rows and rows["train"] < batch:
        raise HardStop(
            "the training set has fewer rows than the batch size",
            expected=f"at least {batch} rows",
            found=f"{rows['train']} rows",
            hint="lower dataset.classify.batch_size",
        )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "spec.yaml"
        derived = train_spec(
            workspace, spec, config, train_csv=workspace.training_csv, train_images=workspace.kpi_images, pretrained=None
        )
        specs.dump_spec(derived, path)
        # The engine is reached by command line alone, here as everywhere.
        command = [sys.executable, "-m", "deft_aoi.engines.embedded.check", str(path)]
        package = str(Path(__file__).resolve().parents[2])
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": package})
    if done.returncode != 0:
        raise HardStop(
            "the spec is not one that the embedded engine accepts",
            found=plain_text(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message", 300),
            hint="correct specs/baseline_spec.yaml",
        )


def _check_pregen(session: _Session, config: RunConfig) -> None:
    from deft_aoi.mining import scan

    found = scan.scan(session.workspace, specs.lights(session.spec), specs.image_ext(session.spec))
    session.staging = {"pairs": len(found.pairs), "by_type": found.counts_by_type, "present": found.present}
    types = ", ".join(f"{plain_text(k, 20)} {v}" for k, v in list(found.counts_by_type.items())[:12])
    session.add(8, "ok" if found.pairs else "warn", f"{len(found.pairs)} pre-generated pairs" + (f": {types}" if types else ""))
    backbone = specs.get(session.spec, "model.backbone.pretrained_backbone_path")
    if config.engine == "tao" and not backbone:
        session.add(8, "warn", "no pretrained backbone: training starts from random weights", "set pretrained_backbone_path")
    elif backbone:
        from deft_aoi.loop.specs import absolute

        path = absolute(session.workspace, str(backbone), "pretrained_backbone_path")
        if not path.is_file() and config.air_gapped:
            raise Blocked("the backbone file is missing", expected=str(path), hint="stage it under augmentation/backbone/")
        session.add(
            8, "ok" if path.is_file() else "warn", f"backbone {path.name}" + ("" if path.is_file() else ": to be fetched")
        )


def _check_gpus(session: _Session, config: RunConfig) -> None:
    from deft_aoi.platforms import gpus

    found = gpus.inventory()
    if config.engine == "tao" and config.platform in ("local", "docker") and not found:
        raise Blocked(
            "TAO needs an NVIDIA GPU and this machine has none",
            hint="run on a GPU box, on --platform slurm or kubernetes, or use --engine embedded (our small engine; its "
            "numbers and checkpoints are not TAO's)",
        )
    for problem in gpus.batch_problems(found, int(specs.get(session.spec, "dataset.classify.batch_size") or 8), config.engine):
        session.add(9, "warn", problem)
    session.add(9, "ok", f"{len(found)} GPUs" if found else "no GPU: the embedded engine trains on the CPU")


def _check_data(session: _Session) -> None:
    session.splits = dataset_view.load_splits(session.workspace, session.spec)
    for name, split in session.splits.items():
        labels = split.label_counts()
        if name in ("train", "kpi") and ("PASS" not in labels or len(labels) < 2):
            raise HardStop(
                f"the {name} set has {'no PASS rows' if 'PASS' not in labels else 'no defect rows'}",
                expected="both PASS and defect rows",
                found=", ".join(f"{plain_text(k, 30)}: {v}" for k, v in labels.items()),
            )
        session.identities[name] = split.identities(identity_cache())
        text = ", ".join(f"{plain_text(k, 20)} {v}" for k, v in list(labels.items())[:10])
        session.add(11, "ok", f"{name}: {len(split.frame)} rows ({text})")
    from deft_aoi.mining import pool

    real, _rules = pool.read_real_rows(session.workspace, specs.lights(session.spec), specs.image_ext(session.spec))
    session.add(11, "ok", f"mining pool: {len(real)} rows, every image found")
    if "holdout" not in session.splits:
        session.add(11, "warn", "no kpi/holdout_set.csv: the final estimate is made by splitting the KPI set by board")


def _check_leakage(session: _Session) -> None:
    from deft_aoi.analysis import leakage
    from deft_aoi.analysis.identity import Part

    splits = session.splits
    parts = {n: Part(f"{n} set", s.frame, s.layout, session.identities[n]) for n, s in splits.items()}
    for other in ("validation", "kpi", "holdout"):
        if other in parts:
            leakage.refuse_leaks(parts["train"], parts[other])
    shared = leakage.shared_boards(splits["train"].frame, splits["kpi"].frame)
    if shared:
        session.add(11, "warn", f"{len(shared)} boards are in both the training and the KPI set")
    near = leakage.near_duplicates(parts["train"], parts["kpi"])
    if len(near):
        first = near.iloc[0]
        session.add(
            11,
            "warn",
            f"{len(near)} training and KPI pairs are nearly the same picture, e.g. line {first.line_a} of the training set and "
            f"line {first.line_b} of the KPI set",
            "look at them: copies of one part make the KPI look better than it is",
        )


def _check_space(session: _Session, config: RunConfig) -> None:
    from deft_aoi.loop.estimate import disk_bytes, duration_sec

    rows = {name: len(s.frame) for name, s in session.splits.items()}
    need = disk_bytes(session.workspace, session.spec, config, session.staging.get("pairs", 0))
    free = shutil.disk_usage(session.workspace.root).free
    session.staging |= {"disk_bytes": need, "duration_sec": duration_sec(config, rows)}
    if free < SPACE_FACTOR * need:
        raise HardStop(
            "not enough free space for this run",
            expected=f"{SPACE_FACTOR * need / 1e9:.1f} GB (1.2 × the estimate)",
            found=f"{free / 1e9:.1f} GB free on the workspace's file system",
            hint="free space, or lower --max-iterations or --training-epochs",
        )
    if not os.access(session.workspace.root, os.W_OK):
        raise Blocked("the workspace cannot be written", hint="results/ is created in it: fix its permissions")
    session.add(10, "ok", f"about {need / 1e6:.0f} MB of disk, {free / 1e9:.0f} GB free")


def _check_metric(session: _Session, config: RunConfig) -> None:
    if config.primary_metric is not None:
        session.add(11, "ok", primary_metric.check(config, session.workspace, session.splits["kpi"].frame))


def _check_statistics(session: _Session, config: RunConfig) -> None:
    from deft_aoi.analysis.intervals import sample_size_for

    frame, ids = session.splits["kpi"].frame, session.identities["kpi"]
    good = (frame["label"] == "PASS").to_numpy()
    distinct = int(ids.loc[good, "content_id"].nunique())
    needed = sample_size_for(config.target.far_fraction)
    if distinct < needed:
        session.add(
            11,
            "warn",
            f"the KPI set has {int(good.sum())} PASS rows ({distinct} distinct); a FAR target of "
            f"{100 * config.target.far_fraction:g}% needs {needed} without a false alarm to be supported at 95%",
            "collect more good parts; until then the verdict says 'not yet supported by the sample size'",
        )
