"""Checkpoints: plain tensors and plain values, named as TAO names them, replaced in one step.

A file is a dict: ``state_dict, optimizer_states, epoch, global_step, epoch_finished, rng, model_config, tao_model``.
It is read with ``torch.load(weights_only=True)`` only, and only after a scan of its opcodes: an untrusted checkpoint
runs no code.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from deft_aoi.contract.checkpoint_scan import scan_checkpoint
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_bytes, fsync_dir
from deft_aoi.engines.embedded.model import ModelConfig, SiameseNet

TAO_MODEL = "visual_changenet_classify"
LATEST = "changenet_model_classify_latest.pth"


class CheckpointError(ValueError):
    """A file is not a checkpoint of this engine, or does not fit the spec; the message is one line."""


def checkpoint_name(epoch: int, step: int) -> str:
    """``model_epoch_EEE_step_SSSSS.pth``: epoch from 0, step counted over the whole training."""
    return f"model_epoch_{epoch:03d}_step_{step:05d}.pth"


def save(folder: Path, content: dict[str, Any]) -> Path:
    """Write a checkpoint and point ``*_latest.pth`` at it (relative link); a kill leaves the old pair or the new."""
    path = folder / checkpoint_name(content["epoch"], content["global_step"])
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic_write_bytes(path, buffer.getvalue())
    link = folder / f".{LATEST}.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(path.name)
    link.replace(folder / LATEST)
    fsync_dir(folder)
    return path


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        FileNotFoundError: no such file, or a dangling link.
        CheckpointError: damaged, holds code, or was written by another program.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    try:
        scan_checkpoint(path.resolve())
    except HardStop as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error.message} ({error.found})") from error
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {str(error).splitlines()[0][:200]}") from error
    if not isinstance(content, dict) or "model_config" not in content or content.get("tao_model") != TAO_MODEL:
        raise CheckpointError(f"{path} is not a checkpoint of the embedded engine (TAO's needs the tao engine)")
    return content


def build_model(path: Path, device: torch.device, *, expected: ModelConfig | None = None) -> tuple[SiameseNet, dict[str, Any]]:
    """Rebuild the network of a checkpoint, in evaluation mode.

    Args:
        path: the checkpoint.
        device: where the network goes.
        expected: what the spec asks for; its size and normalisation are used, its architecture must agree.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not ours, or another architecture than ``expected``.
    """
    content = load(path, device)
    try:
        stored = ModelConfig.from_dict(content["model_config"])
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: model_config does not fit this version of the engine: {error}") from error
    if expected is not None and stored.network_keys() != expected.network_keys():
        raise CheckpointError(
            f"{path} was trained with (difference_module, scales, embed_dec, embedding_vectors) = "
            f"{stored.network_keys()}, the spec asks for {expected.network_keys()}"
        )
    model = SiameseNet(expected or stored).to(device)
    load_weights(model, content, path)
    return model.train(False), content


def load_weights(model: SiameseNet, content: dict[str, Any], path: Path) -> None:
    """Copy a checkpoint's weights, every one of them.

    Raises:
        CheckpointError: a weight is missing, unknown or of another shape.
    """
    try:
        model.load_state_dict(content["state_dict"], strict=True)
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path}: weights do not fit the model: {' '.join(str(error).split())[:200]}") from error


def weights_digest(model: SiameseNet) -> str:
    """SHA-256 over the weights, names and shapes: equal for equal networks, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
