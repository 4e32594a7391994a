"""Looks of the pre-flight at a workspace, for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.paths import Workspace
from deft_aoi.loop.checks.session import Finding
from deft_aoi.loop.preflight import run_checks
from tests import tao_stand_in

TWO_GPUS = "0, GPU-aa, NVIDIA L4, 23034\n1, GPU-bb, NVIDIA RTX A6000, 49140"
RADIO = "c_radio_v2_vit_base_patch16_224"


def gpus(tmp_path: Path, lines: str) -> None:
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\ncat <<X\n{lines}\nX\n")
    smi.chmod(0o755)


def look(workspace: Path, **given: Any) -> tuple[list[Finding], int]:
    """Findings and the exit code."""
    plan, findings, error = run_checks(Workspace.at(workspace), {"training_epochs": 2, "max_iterations": 1, **given})
    assert (plan is None) == (error is not None)
    assert not (workspace / "results").exists() or given.get("resuming")
    return findings, error.exit_code if error else 0


def only(findings: list[Finding], check: int, text: str) -> Finding:
    """The one line of a check that holds a text."""
    found = [f for f in findings if f.check == check and text in f.text]
    assert len(found) == 1, [f for f in findings if f.check == check]
    return found[0]


def edit(workspace: Path, **values: Any) -> None:
    """Put values into the workspace's spec; ``__`` stands for a dot."""
    path = workspace / "specs/baseline_spec.yaml"
    spec = specs.load_spec(path)
    for key, value in values.items():
        specs.put(spec, key.replace("__", "."), value)
    path.unlink()
    specs.dump_spec(spec, path)


def tao_spec(workspace: Path, backbone: str | None = None) -> None:
    """A spec for TAO's FAN on the demo's images."""
    data = specs.load_spec(workspace / "specs/baseline_spec.yaml")["dataset"]["classify"]
    edit(
        workspace,
        model={
            "backbone": {"type": "fan_tiny_8_p4_hybrid", "pretrained_backbone_path": backbone},
            "decode_head": {"feature_strides": [4, 8, 16, 16]},
            "classify": {"difference_module": "learnable"},
        },
        train={"classify": {"loss": "ce"}},
        dataset__classify__num_input=len(data["input_map"]),
        dataset__classify__batch_size=8,
        dataset__classify__image_width=64,
        dataset__classify__image_height=64,
    )


def tao(workspace: Path, tmp_path: Path, **given: Any) -> tuple[list[Finding], int]:
    """Pre-flight of a TAO run on this machine, with a stand-in for its commands."""
    python = tmp_path / "tao/bin/python"
    if not python.exists():
        tao_stand_in.install(tmp_path / "tao")
    here = {"engine": "tao", "platform": "local", "encoder": "pixels", "platform_options": {"tao_python": str(python)}}
    return look(workspace, **{**here, **given})
