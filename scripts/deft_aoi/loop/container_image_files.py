"""Images that SLURM's jobs run from as files: imported before any allocation, on record, and the same at every launch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.files import digest_json, fsync_dir, sha256_file
from deft_aoi.contract.images import stamp_of
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.text import quoted
from deft_aoi.loop.config import RunConfig
from deft_aoi.loop.context import RunContext

EVIDENCE = "image_files"
"""In the ``assets`` event: path → ``sha256`` and ``stamp`` (size in bytes, mtime and ctime in ns, inode)."""


def imported_image(config: RunConfig, workspace: Workspace, reference: str) -> Path | None:
    """Where an image that we import lies; ``None`` where jobs do not run from one of ours."""
    if config.platform != "slurm" or _given(config):
        return None
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", reference)[-80:].strip("._-")
    return workspace.cache_dir / "images" / f"{name}-{digest_json(reference)[:12]}.sqsh"


def image_file(config: RunConfig, workspace: Workspace, reference: str) -> Path | None:
    """The file that jobs of this image run from, the user's or ours; ``None`` where they run from none."""
    if config.platform == "slurm" and _given(config):
        return Path(_given(config))
    return imported_image(config, workspace, reference)


def _given(config: RunConfig) -> str:
    return str(dict(config.platform_options).get("container_image") or "")


def import_missing(ctx: RunContext) -> list[str]:
    """Import each image once on the login node, so that no allocated GPU waits for a download.

    Returns:
        Names of the files that were imported now.

    Raises:
        Blocked: the run is air-gapped, or Enroot is absent or failed.
    """
    done = []
    for reference in _references(ctx):
        target = imported_image(ctx.config, ctx.workspace, reference)
        if target is None or target.is_file():
            continue
        if ctx.config.air_gapped:
            raise Blocked(
                "the image is not imported and the run is air-gapped",
                expected=str(target),
                hint="import it there, or give --platform-option container_image=FILE.sqsh",
            )
        from deft_aoi.platforms import slurm

        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.unlink(missing_ok=True)  # of an import that was killed; Enroot never overwrites
        slurm.import_image(reference, part, dict(ctx.config.platform_options))
        if not part.is_file():
            raise Blocked(
                "the imported image is not visible here",
                expected=str(part),
                hint="the workspace must lie under the same path on the login node",
            )
        part.replace(target)
        fsync_dir(target.parent)
        done.append(target.name)
    return done


def describe(ctx: RunContext) -> dict[str, dict[str, Any]]:
    """What the files are that jobs will run from, for the record; each is read once. One that only the nodes see is left out."""
    files = {image_file(ctx.config, ctx.workspace, reference) for reference in _references(ctx)}
    seen = sorted(file for file in files if file is not None and file.is_absolute() and file.is_file())
    return {str(file): {"stamp": list(stamp_of(file.stat())), "sha256": sha256_file(file)} for file in seen}


def require_same_image_file(file: Path, events: Iterable[Mapping[str, Any]]) -> None:
    """Stop when an image file is not the one that the newest ``assets`` event describes.

    A file with the recorded stamp is taken to be unchanged; any other is read.

    Raises:
        HardStop: it has another content, or is gone.
    """
    known: dict[str, Any] | None = None
    for event in events:
        if event["stage"] == "assets" and event["status"] == "ok":
            known = (event["data"].get(EVIDENCE) or {}).get(str(file))
    if known is None:
        return
    there = file.is_file()
    if there and (list(stamp_of(file.stat())) == known["stamp"] or sha256_file(file) == known["sha256"]):
        return
    raise HardStop(
        f"the image file {quoted(file, 200)} is not the one that this run began with",
        expected=f"sha256 {known['sha256'][:16]}",
        found="another content" if there else "no file",
        hint="restore it, or start a new run",
    )


def _references(ctx: RunContext) -> list[str]:
    return sorted({image["reference"] for image in ctx.plan["images"].values()})
