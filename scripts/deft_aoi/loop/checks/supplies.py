"""Checks 3, 5, 6 and 8: what the run is made with and may have to fetch: images or wheels, weights, credentials.

What is absent and can be fetched is listed for the ``assets`` stage; what nothing will fetch is missing now, not after a
training. In an air-gapped run everything must be here already.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from deft_aoi.bootstrap import setup_command
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.splits import absolute
from deft_aoi.contract.text import printable, quoted
from deft_aoi.loop.checks.session import Checklist
from deft_aoi.loop.config import RunConfig
from deft_aoi.loop.container_image_files import imported_image


def check_images(session: Checklist, config: RunConfig) -> None:
    """Checks 5 and 6 where jobs run from an image, else the engine's wheels."""
    from deft_aoi.engines import container_images

    options = dict(config.platform_options)
    session.images = container_images.resolve_for(config.platform, config.engine, options)
    if config.platform == "docker":
        from deft_aoi.platforms import docker_images

        session.images = docker_images.look_up(session.images, options)
    if not session.images:
        session.add(5, "ok", f"engine {config.engine} on {config.platform}: no image needed")
        if config.engine == "tao":
            _check_wheels(session, config, options)
        return
    for reference in dict.fromkeys(image["reference"] for image in session.images.values()):
        tools = " and ".join(tool for tool, image in session.images.items() if image["reference"] == reference)
        image = next(i for i in session.images.values() if i["reference"] == reference)
        pinned = image["id"] or image["digest"]
        unpinned = "pinned by what is pulled" if config.platform == "docker" else "not pinned: name it with @sha256:… for that"
        told = f"pinned to {pinned[:19]}" if pinned else f"has no known digest yet: {unpinned}"
        session.add(5, "ok" if pinned else "warn", f"image of {tools}: {reference} {told}")
        if _is_here(session, config, image):
            session.add(6, "ok", f"image {reference} is here")
        elif config.platform == "docker" and "/" not in reference:
            raise Blocked(
                f"the image {reference} is not here and no registry has it",
                hint=f"build it: docker build -t {reference} -f packaging/docker/Dockerfile .",
            )
        elif config.air_gapped and config.platform != "kubernetes":
            raise Blocked(
                f"the image {reference} is not here and the run is air-gapped",
                hint="load it: docker load -i FILE.tar"
                if config.platform == "docker"
                else "import it on the login node, or give --platform-option container_image=FILE.sqsh",
            )
        else:
            where = "the cluster pulls it" if config.platform == "kubernetes" else "to be fetched after approval"
            session.add(6, "warn", f"image {reference} is not known to be here: {where}")


def _is_here(session: Checklist, config: RunConfig, image: dict[str, str | None]) -> bool:
    if config.platform == "slurm":
        file = imported_image(config, session.workspace, str(image["reference"]))
        return file is None or file.is_file()  # none of ours: the user's own file or the launcher's
    return bool(image["id"])


def _check_wheels(session: Checklist, config: RunConfig, options: dict[str, str]) -> None:
    from deft_aoi.engines import tao_install

    python = options.get("tao_python")
    if config.platform != "local":
        session.add(6, "warn", f"{printable(python, 120)}: TAO's wheels there are first seen by a job")
        return
    if python is None:
        if shutil.which("visual_changenet") is None:
            raise Blocked(
                "TAO's command visual_changenet is not here",
                hint="--tao-python PATH of a Python 3.12 with the wheels "
                "nvidia-tao-pytorch and nvidia-tao-ds, or --platform docker",
            )
        session.add(6, "ok", "visual_changenet is on PATH")
        return
    version = tao_install.installed(python)
    if version is None:
        raise Blocked(
            "this Python has no TAO",
            found=printable(python, 160),
            hint=f"{python} -m pip install nvidia-tao-pytorch nvidia-tao-ds (Python 3.12)",
        )
    if version and not version.startswith(str(config.tao_version)):
        session.add(
            6,
            "warn",
            f"specs are checked for TAO {config.tao_version}, and the wheels are {printable(version, 20)}",
            f"--tao-version {printable(version, 20)}",
        )
    session.add(6, "ok", f"TAO {printable(version, 20)} in {printable(python, 120)}")


def check_backbone(session: Checklist, config: RunConfig) -> None:
    """Check 8: the backbone's file, under its real suffix."""
    from deft_aoi.engines import assets

    backbone = specs.get(session.spec, "model.backbone.pretrained_backbone_path")
    if not backbone:
        if config.engine == "tao":
            session.add(8, "warn", "no pretrained backbone: training starts from random weights", "set pretrained_backbone_path")
        return
    path = absolute(session.workspace, str(backbone), "pretrained_backbone_path")
    if path.is_file():
        session.add(8, "ok", f"backbone {quoted(path.name)}")
        return
    near = path.parent.iterdir() if path.parent.is_dir() else ()
    twins = sorted(p.name for p in near if p.name.startswith(f"{path.stem}."))
    if twins:
        raise HardStop(
            "the backbone lies there under another suffix",
            expected=path.name,
            found=printable(", ".join(twins), 120),
            hint="name the real file in pretrained_backbone_path; never rename it: TAO chooses its reader by the suffix",
        )
    if config.air_gapped:
        raise Blocked(
            "the backbone file is missing and the run is air-gapped",
            expected=str(path),
            hint="stage it under augmentation/backbone/, its real suffix kept",
        )
    _fetch(session, f"backbone {quoted(path.name)}", assets.source_of(specs.backbone_type(session.spec), path))


def _fetch(session: Checklist, what: str, repository: str) -> None:
    """List what the assets stage will fetch; it needs the hub's client for that."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise Blocked(
            f"{what} must be fetched, and the Python package huggingface_hub is missing", hint=f"{setup_command()}, or stage it"
        )
    session.add(8, "warn", f"{what}: to be fetched from {repository} after approval")
    session.fetches.append(repository)


def check_encoder(session: Checklist, config: RunConfig) -> None:
    """Check 8: the mining encoder's model, where it is not one of ours."""
    from deft_aoi.mining import encoders

    if config.encoder != "siglip":
        return
    folder = encoders.find_siglip(config.model_path)
    if folder is not None:
        session.add(8, "ok", f"mining encoder {printable(encoders.siglip_identity(folder).name, 80)}")
    elif config.air_gapped:
        raise encoders.siglip_absent()
    else:
        _fetch(session, "the mining encoder", encoders.SIGLIP)


def check_credentials(session: Checklist, config: RunConfig) -> None:
    """Check 3: presence only, and only of what this run will have to fetch."""
    from deft_aoi.platforms import credentials

    pulls = any(not _is_here(session, config, image) for image in session.images.values()) and config.platform != "kubernetes"
    needed = credentials.needed(
        config.platform, config.engine, config.encoder, air_gapped=config.air_gapped, pulls=pulls, fetches=bool(session.fetches)
    )
    present = credentials.present(Path(session.workspace.env_file))
    absent = [" or ".join(names) for names in needed if not any(n in present for n in names)]
    if absent:
        session.add(
            3,
            "warn",
            f"not set: {', '.join(absent)}; something must be fetched after approval",
            "set it in the environment or in the workspace's .env, or pre-stage what is listed",
        )
    else:
        session.add(3, "ok", "no credential is missing")
