"""What the approved plan needs and what is not here: weights and images, fetched before any job, never inside one."""

from __future__ import annotations

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import Blocked
from deft_aoi.contract.splits import absolute
from deft_aoi.loop import container_image_files
from deft_aoi.loop.context import RunContext, StageResult


def fetch_assets(ctx: RunContext, _label: str, _attempt: int) -> StageResult:
    """Fetch what the approved plan needs and what is not here: weights, images. Never before approval."""
    fetched = _weights(ctx)
    evidence: dict[str, object] = {}
    if ctx.plan["images"]:
        if ctx.config.platform == "docker":  # a scheduler's nodes fetch for themselves
            from deft_aoi.platforms import docker_images

            pulled, evidence["image_ids"] = docker_images.ensure_present(ctx.plan["images"], dict(ctx.config.platform_options))
            fetched += pulled  # what a plan could not pin before the pull is pinned by its id from here on
        fetched += container_image_files.import_missing(ctx)
        if files := container_image_files.describe(ctx):
            evidence[container_image_files.EVIDENCE] = files
    evidence["fetched"] = fetched[:10]
    return StageResult(f"assets ready, {len(fetched)} fetched", {}, evidence)


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
                raise encoders.siglip_absent()
            assets.fetch_model(encoders.SIGLIP)
            fetched.append(encoders.SIGLIP)
    return fetched
