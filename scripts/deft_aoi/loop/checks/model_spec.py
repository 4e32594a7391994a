"""Check 7: is the spec one that the chosen engine loads and can train, with the rows that it will meet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.programs import run_program
from deft_aoi.contract.text import printable, quoted
from deft_aoi.loop.checks.session import Checklist
from deft_aoi.loop.config import RunConfig
from deft_aoi.loop.specs import train_spec


def check_spec(session: Checklist, config: RunConfig) -> None:
    """Check 7, for the engine of this run."""
    rows = {name: len(split.frame) for name, split in session.splits.items()}
    if config.engine == "tao":
        from deft_aoi.contract.tao_cells import require_tao_cells
        from deft_aoi.engines.tao_schema import check_tao_spec

        for name, split in session.splits.items():
            require_tao_cells(split.frame, f"{name} set")

        # As TAO will see it: without our own `deft` section, and once with what that section changes for fine-tuning.
        ws = session.workspace
        for pretrained in (None, ws.root / "previous.pth"):
            derived = train_spec(
                ws, session.spec, config, train_csv=ws.training_csv, train_images=ws.kpi_images, pretrained=pretrained
            )
            check_tao_spec(derived, config.tao_version, rows)
    else:
        check_embedded_spec(session.workspace, session.spec, config, rows)
    session.add(7, "ok", f"spec accepted for {config.engine}, backbone {quoted(specs.backbone_type(session.spec))}")


def check_embedded_spec(workspace: Workspace, spec: specs.Spec, config: RunConfig, rows: dict[str, int]) -> None:
    """Load the spec exactly as the embedded engine will, without running anything.

    Raises:
        HardStop: an unknown key, a wrong type, a rule of the engine, or fewer rows than the batch size.
    """
    import tempfile

    batch = int(specs.get(spec, "dataset.classify.batch_size") or 8)
    if rows and rows["train"] < batch:
        raise HardStop(
            "the training set has fewer rows than the batch size",
            expected=f"at least {batch} rows",
            found=f"{rows['train']} rows",
            hint=f"--set dataset.classify.batch_size={rows['train']}, or lower it in specs/baseline_spec.yaml",
        )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "spec.yaml"
        derived = train_spec(
            workspace, spec, config, train_csv=workspace.training_csv, train_images=workspace.kpi_images, pretrained=None
        )
        specs.dump_spec(derived, path)
        # The engine is reached by command line alone, here as everywhere.
        command = [sys.executable, "-m", "deft_aoi.engines.embedded.check", str(path)]
        package = str(Path(__file__).resolve().parents[3])
        done = run_program(command, timeout_sec=120, env={**os.environ, "PYTHONPATH": package})
    if done.returncode != 0:
        raise HardStop(
            "the spec is not one that the embedded engine accepts",
            found=printable(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message", 300),
            hint="correct specs/baseline_spec.yaml",
        )
