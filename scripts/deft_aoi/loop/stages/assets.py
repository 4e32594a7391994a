"""What the approved plan needs and what is not here: weights and images, fetched before any job, never inside one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked
from deft_aoi.contract.files import digest_json, fsync_dir, sha256_file
from deft_aoi.contract.paths import Workspace
from deft_aoi.loop.config import RunConfig
from deft_aoi.loop.context import Outcome, RunContext
from deft_aoi.loop.specs import absolute


def fetch_assets(ctx: RunContext, _label: str, _attempt: int) -> Outcome:
    """Fetch what the approved plan needs and what is not here: weights, images. Never before approval."""
    fetched = _weights(ctx)
    evidence: dict[str, object] = {}
    imported: dict[str, str] = {}
    if ctx.plan["images"]:
        if ctx.config.platform == "docker":  # a scheduler's nodes fetch for themselves
            from deft_aoi.platforms import docker_images

            pulled, evidence["image_ids"] = docker_images.ensure_present(ctx.plan["images"], dict(ctx.config.platform_options))
            fetched += pulled  # what a plan could not pin before the pull is pinned by its id from here on
        imported = _import_images(ctx)
    evidence["fetched"] = fetched[:10]
    if imported:
        evidence["imported"] = imported
    return Outcome(f"assets ready, {len(fetched) + len(imported)} fetched", {}, evidence)


def _weights(ctx: RunContext) -> list[str]:
    """Fetch the backbone and the encoder's model where they are not here; returns their names."""
    from deft_aoi.engines import assets

    fetched: list[str] = []
    backbone = specs.get(ctx.spec, "model.backbone.pretrained_backbone_path")
    path = absolute(ctx.workspace, str(backbone), "pretrained_backbone_path") if backbone else None
    if path is not None and not path.is_file():
        if ctx.config.air_gapped:
            raise Blocked("the backbone file is missing and the run is air-gapped", expected=str(path), hint="stage it there")
        assets.fetch_backbone(specs.backbone_type(ctx.spec), path)
        fetched.append(path.name)
    if ctx.config.encoder == "siglip":
        from deft_aoi.mining import encoders

        if encoders.find_siglip(ctx.config.model_path) is None:
            if ctx.config.air_gapped:
                raise Blocked("the SigLIP model is missing and the run is air-gapped", hint="give --model-path DIR")
            assets.fetch_model(encoders.SIGLIP)
            fetched.append(encoders.SIGLIP)
    return fetched


def pinned_image(image: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> str | None:
    """The id or digest that a job's image must have: the plan's, else that of the image which the assets stage pulled.

    Args:
        image: an entry of the plan's ``images``; empty where the job runs from none.
        events: the record.
    """
    pinned = image.get("id") or image.get("digest")
    if pinned or not image:
        return pinned
    for event in events:
        if event["stage"] == "assets" and event["status"] == "ok":
            pinned = (event["data"].get("image_ids") or {}).get(image["reference"]) or pinned
    return pinned


def imported_image(config: RunConfig, workspace: Workspace, reference: str) -> Path | None:
    """Where SLURM's jobs find this image as a file; ``None`` where they do not run from one of ours."""
    if config.platform != "slurm" or dict(config.platform_options).get("container_image"):
        return None
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", reference)[-80:].strip("._-")
    return workspace.cache_dir / "images" / f"{name}-{digest_json(reference)[:12]}.sqsh"


def _import_images(ctx: RunContext) -> dict[str, str]:
    """Import each image once on the login node, so that no allocated GPU waits for a download.

    Returns:
        File name → its SHA-256, of the images that were imported now.

    Raises:
        Blocked: the run is air-gapped, or Enroot is absent or failed.
    """
    done: dict[str, str] = {}
    for reference in sorted({image["reference"] for image in ctx.plan["images"].values()}):
        target = imported_image(ctx.config, ctx.workspace, reference)
        if target is None or target.is_file():
            continue
        if ctx.config.air_gapped:
            raise Blocked("the image is not imported and the run is air-gapped", expected=str(target),
                          hint="import it there, or give --platform-option container_image=FILE.sqsh")  # fmt: skip
        from deft_aoi.platforms import slurm

        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.unlink(missing_ok=True)  # of an import that was killed; Enroot never overwrites
        slurm.import_image(reference, part, dict(ctx.config.platform_options))
        if not part.is_file():
            raise Blocked("the imported image is not visible here", expected=str(part),
                          hint="the workspace must lie under the same path on the login node")  # fmt: skip
        part.replace(target)
        fsync_dir(target.parent)
        done[target.name] = sha256_file(target)
    return done
