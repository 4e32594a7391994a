"""Copying the pre-generated pairs into the run, so that ChangeNet rows work and nothing changes behind the run's back.

``synth_pool/images/{synth_ng,synth_ok}/{object_name}_{light}{image_ext}`` with ``sdg_rows.csv`` and ``manifest.json``
(schema ``pregen_manifest``). Bytes are digested while copied; an image is re-encoded only where its extension differs
from the spec's. What is written names the folder it will have after publication, never the attempt's.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv, write_changenet_csv
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_bytes, atomic_write_json, copy_hashed, digest_json, read_json, sha256_file
from deft_aoi.contract.images import FORMAT_OF, format_of, open_image
from deft_aoi.contract.paths import Workspace, resolve_under
from deft_aoi.contract.schema import validate
from deft_aoi.contract.text import quoted
from deft_aoi.mining.pregen_scan import PregenPair, PregenPairs, scan
from deft_aoi.mining.settings import JPEG_QUALITY, MAX_LISTED

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

MANIFEST = "manifest.json"
ROWS = "sdg_rows.csv"
NG_DIR = "images/synth_ng"
OK_DIR = "images/synth_ok"
_JOURNAL = ".staged.jsonl"


@dataclass(frozen=True)
class StagedPairs:
    """What is staged.

    Attributes:
        rows: ChangeNet rows, workspace-relative, with ``provenance`` (``sdg``) and ``defect_type``.
        manifest: the content of ``manifest.json``.
        copied: files written by this call; 0 when everything was there.
    """

    rows: pd.DataFrame
    manifest: dict[str, Any]
    copied: int


def stage(
    pairs: PregenPairs,
    out_dir: Path,
    *,
    workspace: Workspace,
    final_dir: Path,
    encoder: Mapping[str, Any] | None = None,
    force: bool = False,
) -> StagedPairs:
    """Stage ``pairs`` into ``out_dir`` (an attempt's folder), which will be published as ``final_dir``.

    A killed call continues where it was; a repeated one says what is there; ``force`` rebuilds.

    Args:
        pairs: what :func:`deft_aoi.mining.pregen_scan.scan` found.
        out_dir: written now; made if absent.
        workspace: the customer's folder; read only.
        final_dir: where ``out_dir`` will lie; rows and manifest name this folder.
        encoder: identity of the encoder that the pool is embedded with, if that is known now.
        force: throw away what is staged and start again.

    Raises:
        HardStop: ``out_dir`` holds pairs staged from other sources or parameters, or a source changed while copied.
    """
    parameters = {
        "lights": list(pairs.lights),
        "image_ext": pairs.image_ext,
        "jpeg_quality": JPEG_QUALITY,
        "sources": digest_json([[p.stem, p.defect_type, p.ng, p.ok] for p in pairs.pairs]),
    }
    if force:
        for name in ("images", MANIFEST, ROWS, _JOURNAL):
            _remove(out_dir / name)
    if (out_dir / MANIFEST).exists():
        return _reuse(out_dir, workspace, parameters)
    files, copied = _copy_all(pairs, out_dir, workspace, digest_json(parameters))
    rows = _rows(pairs, workspace.rel(final_dir))
    write_changenet_csv(rows, out_dir / ROWS)
    manifest = {
        "version": 1,
        "pairs": len(pairs.pairs),
        "counts_by_type": pairs.counts_by_type,
        "parameters": parameters,
        "encoder": dict(encoder) if encoder else None,
        "ignored": list(pairs.ignored),
        "files": files,
    }
    _check_manifest(manifest)
    atomic_write_json(out_dir / MANIFEST, manifest)
    (out_dir / _JOURNAL).unlink(missing_ok=True)
    return StagedPairs(rows, manifest, copied)


def load_staged(out_dir: Path) -> StagedPairs:
    """Read what an earlier :func:`stage` left in ``out_dir``."""
    manifest = _read_manifest(out_dir)
    if manifest["pairs"] == 0:
        return StagedPairs(_empty_rows(), manifest, 0)
    return StagedPairs(read_changenet_csv(out_dir / ROWS, what="staged synthetic rows"), manifest, 0)


def _check_manifest(manifest: Any) -> None:
    """Validate all but the bulk with the schema: on 10,000 entries it takes seconds, comparing their keys does not."""
    files = manifest["files"] if isinstance(manifest, dict) and isinstance(manifest.get("files"), list) else []
    validate({**manifest, "files": files[:8]} if files else manifest, "pregen_manifest")
    odd = [e for e in files if not isinstance(e, dict) or e.keys() != files[0].keys()]
    if odd:
        raise HardStop("synth_pool/manifest.json is damaged", found=quoted(odd[0]), hint="--force stages again")


def _read_manifest(out_dir: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = read_json(out_dir / MANIFEST, what="synth_pool manifest")
    _check_manifest(manifest)
    return manifest


def _reuse(out_dir: Path, workspace: Workspace, parameters: dict[str, Any]) -> StagedPairs:
    staged = load_staged(out_dir)
    if staged.manifest["parameters"] != parameters:
        raise HardStop(
            "the staged pairs were made from other sources or parameters",
            expected="the same pre-generated pairs, input_map and image_ext",
            hint="--force stages them again",
        )
    check_unchanged(workspace, out_dir, relist=False)
    (out_dir / _JOURNAL).unlink(missing_ok=True)  # killed between the manifest and this
    return staged


def _copy_all(pairs: PregenPairs, out_dir: Path, workspace: Workspace, key: str) -> tuple[list[dict[str, Any]], int]:
    layout = ImageLayout(out_dir, pairs.lights, pairs.image_ext)
    done = _read_journal(out_dir, key)
    for folder in (NG_DIR, OK_DIR):
        (out_dir / folder).mkdir(parents=True, exist_ok=True)
    files: list[dict[str, Any]] = []
    copied = 0
    with (out_dir / _JOURNAL).open("a", encoding="utf-8") as journal:
        if not done:
            journal.write(json.dumps({"key": key}) + "\n")
        tasks = [
            (source, f"{folder}/{layout.file_name(pair.stem, light)}")
            for pair in pairs.pairs
            for source, folder in ((pair.ng, NG_DIR), (pair.ok, OK_DIR))
            for light in pairs.lights
        ]

        def _one(task: tuple[str, str]) -> tuple[dict[str, Any], bool]:
            source, rel = task
            entry = done.get(rel)
            if entry is not None and _still(out_dir / rel, entry, "") and _still(workspace.root / source, entry, "source_"):
                return entry, False
            return _copy_one(workspace, source, out_dir, rel, pairs.image_ext), True

        # Digesting and copying release the interpreter, so a few threads overlap them; entries come back in order.
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="stage") as pool:
            for entry, is_new in pool.map(_one, tasks):
                files.append(entry)
                if is_new:
                    journal.write(json.dumps(entry) + "\n")
                    copied += 1
    return sorted(files, key=lambda e: e["path"]), copied


def _read_journal(out_dir: Path, key: str) -> dict[str, dict[str, Any]]:
    """Entries of a killed call by path; a journal of other parameters is dropped with what it copied."""
    path = out_dir / _JOURNAL
    if not path.exists():
        return {}
    entries: dict[str, dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8").split("\n")
    try:
        if json.loads(lines[0] or "{}").get("key") != key:
            path.unlink()
            _remove(out_dir / "images")
            return {}
        for line in lines[1:]:
            entry = json.loads(line)
            entries[entry["path"]] = entry
    except ValueError:
        pass  # the last line was cut by the kill; what it spoke of is copied again
    if lines[-1]:
        path.write_text("\n".join(lines[: 1 + len(entries)]) + "\n", encoding="utf-8")
    return entries


def _stat_fields(path: Path, prefix: str) -> dict[str, int]:
    info = path.lstat()
    return {
        f"{prefix}size": info.st_size,
        f"{prefix}mtime_ns": info.st_mtime_ns,
        f"{prefix}ctime_ns": info.st_ctime_ns,
        f"{prefix}inode": info.st_ino,
    }


def _still(path: Path, entry: Mapping[str, Any], prefix: str) -> bool:
    """Whether the file's stat is the recorded one (then its content is too)."""
    try:
        now = _stat_fields(path, prefix)
    except FileNotFoundError:
        return False
    return all(entry.get(key) == value for key, value in now.items())


def _copy_one(workspace: Workspace, source: str, out_dir: Path, rel: str, image_ext: str) -> dict[str, Any]:
    src, dst = workspace.root / source, out_dir / rel
    before = _stat_fields(src, "source_")
    if format_of(source) == FORMAT_OF.get(image_ext.lower()):
        _, source_sha = copy_hashed(src, dst)
        sha = source_sha
    else:
        _save_as(open_image(src), dst, image_ext)
        source_sha, sha = sha256_file(src), sha256_file(dst)
    if _stat_fields(src, "source_") != before:
        raise HardStop(
            f"{quoted(source)} changed while it was copied",
            expected="pre-generated images that stay as they are during a run",
            hint="wait until the generator has finished, then run again",
        )
    return {
        "path": rel,
        **_stat_fields(dst, ""),
        "sha256": sha,
        "source": source,
        **before,
        "source_sha256": source_sha,
        "reencoded": sha != source_sha,
    }


def _save_as(image: Image.Image, path: Path, extension: str) -> None:
    """Encode ``image`` with the format that ``extension`` names, atomically and without metadata."""
    import io

    buffer = io.BytesIO()
    kind = FORMAT_OF.get(extension.lower())
    if kind == "JPEG":
        image.save(buffer, kind, quality=JPEG_QUALITY, subsampling=0)
    elif kind:
        image.save(buffer, kind)
    else:
        raise HardStop(
            "the spec's image_ext is not an image format we write",
            found=quoted(extension),
            hint="use " + ", ".join(FORMAT_OF),
        )
    atomic_write_bytes(path, buffer.getvalue())


def _empty_rows() -> pd.DataFrame:
    import pandas as pd

    columns = ["input_path", "golden_path", "label", "object_name", "provenance", "defect_type"]
    return pd.DataFrame({c: pd.Series(dtype="object") for c in columns})


def _rows(pairs: PregenPairs, final: str) -> pd.DataFrame:
    import pandas as pd

    def _row(pair: PregenPair) -> dict[str, str]:
        return {
            "input_path": f"{final}/{NG_DIR}",
            "golden_path": f"{final}/{OK_DIR}",
            "label": pair.defect_type,
            "object_name": pair.stem,
            "provenance": "sdg",
            "defect_type": pair.defect_type,
        }

    rows = pd.DataFrame([_row(pair) for pair in pairs.pairs], dtype="object")
    return rows if len(rows) else _empty_rows()


def check_unchanged(workspace: Workspace, synth_pool: Path, *, relist: bool = True) -> dict[str, Any]:
    """Verify that neither the staged pairs nor their sources changed since they were staged.

    Every file is compared by stat; what differs there is digested.

    Args:
        workspace: the customer's folder.
        synth_pool: the folder that :func:`stage` filled.
        relist: also compare the names in the pre-generated folders (new or vanished files).

    Returns:
        What ``ingest_summary.json`` holds: version, pairs, counts_by_type, files_checked, files_digested, manifest_sha256.

    Raises:
        HardStop: mutation of the pre-generated folder or of the staged files, all listed.
    """
    manifest = _read_manifest(synth_pool)
    problems: list[str] = []
    digested = 0
    for entry in manifest["files"]:
        for root, name, prefix in ((synth_pool, entry["path"], ""), (workspace.root, entry["source"], "source_")):
            path = resolve_under(root, name)
            if not path.is_file():
                problems.append(f"{quoted(name)} is missing")
            elif not _still(path, entry, prefix):
                digested += 1
                if sha256_file(path) != entry[f"{prefix}sha256"]:
                    problems.append(f"{quoted(name)} changed")
    if relist and not problems:
        parameters = manifest["parameters"]
        now = scan(workspace, tuple(parameters["lights"]), parameters["image_ext"], decode=False)
        if digest_json([[p.stem, p.defect_type, p.ng, p.ok] for p in now.pairs]) != parameters["sources"]:
            problems.append(
                f"{manifest['pairs']} pairs were staged, the folder now pairs to other files or types ({len(now.pairs)})"
            )
    if problems:
        raise HardStop(
            f"the pre-generated pairs changed during the run ({len(problems)} findings)",
            expected="the files that were staged, unchanged",
            found="; ".join(problems[:MAX_LISTED]),
            hint="restore them, or start a new run with the new pairs",
        )
    return {
        "version": 1,
        "pairs": manifest["pairs"],
        "counts_by_type": manifest["counts_by_type"],
        "files_checked": 2 * len(manifest["files"]),
        "files_digested": digested,
        "manifest_sha256": sha256_file(synth_pool / MANIFEST),
    }


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard(final_dir: Path) -> None:
    """Throw away a staging that no event names: the folder and its unfinished attempts."""
    for path in (final_dir, *final_dir.parent.glob(f"{final_dir.name}.tmp-*")):
        _remove(path)
