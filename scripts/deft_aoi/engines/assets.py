"""Weights that the approved plan needs and that are not here: fetched after approval, never during a job."""

from __future__ import annotations

from pathlib import Path

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.files import copy_hashed, fsync_dir
from deft_aoi.contract.text import printable, quoted

# TAO backbone -> (repository on the Hugging Face hub, file). Only these are fetched; others have to be staged by hand.
HUB_FILES = {
    "c_radio_v2_vit_base_patch16_224": ("nvidia/C-RADIOv2-B", "model.safetensors"),
    "c_radio_v2_vit_large_patch16_224": ("nvidia/C-RADIOv2-L", "model.safetensors"),
    "c_radio_v2_vit_huge_patch16_224": ("nvidia/C-RADIOv2-H", "model.safetensors"),
}


def source_of(backbone_type: str, target: Path) -> str:
    """The repository that has the weights of a backbone, for a file of this name.

    Raises:
        Blocked: none is known.
        HardStop: ``target`` has another suffix than the file.
    """
    if backbone_type not in HUB_FILES:
        raise Blocked(
            f"no source is known for the weights of {quoted(backbone_type)}", expected=str(target), hint="stage the file there"
        )
    repository, name = HUB_FILES[backbone_type]
    if target.suffix != Path(name).suffix:
        raise HardStop(
            "the backbone's file name has the wrong suffix",
            expected=Path(name).suffix,
            found=quoted(target.name),
            hint="TAO chooses its reader by the suffix: keep the real one",
        )
    return repository


def fetch_backbone(backbone_type: str, target: Path) -> str:
    """Fetch a backbone's weights to ``target``; the suffix is kept, because TAO chooses its reader by it.

    Returns:
        Hex SHA-256 of the file.

    Raises:
        Blocked: not known here, or the download failed.
        HardStop: ``target`` has another suffix than the file.
    """
    repository = source_of(backbone_type, target)
    name = HUB_FILES[backbone_type][1]
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise Blocked("the Python package huggingface_hub is missing", hint="run setup_env.py, or stage the file") from error
    try:
        # The default branch: TAO's backbones have no pinned releases to name.
        cached = hf_hub_download(repository, name)  # nosec B615
    except Exception as error:  # the hub's own errors, the network's, the disk's: all mean "not here"
        raise Blocked(
            f"{repository} cannot be fetched",
            found=printable(f"{type(error).__name__}: {error}", 200),
            hint=f"check the network and HF_TOKEN, or stage the file as {target}",
        ) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    _size, digest = copy_hashed(Path(cached).resolve(), part)
    part.replace(target)
    fsync_dir(target.parent)
    return digest


def fetch_model(repository: str) -> None:
    """Fetch a model's configuration and safetensors weights into the Hugging Face cache.

    Raises:
        Blocked: the download failed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise Blocked("the Python package huggingface_hub is missing", hint="run setup_env.py, or stage the model") from error
    try:
        snapshot_download(repository, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"])  # nosec B615
    except Exception as error:  # the hub's own errors, the network's, the disk's: all mean "not here"
        raise Blocked(
            f"{repository} cannot be fetched",
            found=printable(f"{type(error).__name__}: {error}", 200),
            hint="check the network and HF_TOKEN, or copy the folder here and give --model-path",
        ) from error
