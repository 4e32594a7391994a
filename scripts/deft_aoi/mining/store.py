"""Embeddings by content and encoder: an image is embedded once per encoder in its life, also across runs.

``<cache_dir>/<encoder digest>/`` holds ``encoder.json`` and append-only parts: ``part-*.parquet`` (``content_id``,
``embedding``: fixed-size list of float32, L2-normalised, encoder identity in the schema's metadata) with a ``.npy`` beside
each, because decoding a million embeddings from Parquet costs seconds and mapping them costs none. The Parquet part is
the truth; a missing or odd ``.npy`` is made again from it. ``.json`` beside them has the digests of both: what somebody
changed is never mined with.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import (
    atomic_write_bytes,
    atomic_write_json,
    canonical_json,
    digest_json,
    fsync_dir,
    read_json,
    sha256_bytes,
    sha256_file,
)

if TYPE_CHECKING:
    import numpy as np

_METADATA_KEY = b"deft_aoi.encoder"
_TEMPORARY = re.compile(r"\..+\.([0-9]+)\.tmp")
_ABANDONED_SECONDS = 3600.0
"""A process of another host may share the folder, and its number says nothing here; no write takes an hour."""


@dataclass(frozen=True)
class EncoderIdentity:
    """Who made an embedding.

    Attributes:
        name: ``pair_feature``, ``siglip:<model>``, ``difference:<side>``, …; the part before ``:`` selects the defaults.
        weights_sha256: digest of the weights, or a word where there are none.
        preprocessing: what was done to the pixels, lights in their order.
    """

    name: str
    weights_sha256: str
    preprocessing: str

    @property
    def digest(self) -> str:
        """Hex SHA-256 over all three."""
        return digest_json(asdict(self))

    def as_dict(self) -> dict[str, str]:
        """For records and manifests."""
        return {**asdict(self), "digest": self.digest}


def normalize_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale rows of ``(N, D)`` to unit length, as float32; a zero row stays zero.

    Raises:
        HardStop: a value is not finite.
    """
    import numpy as np

    out = np.array(vectors, dtype=np.float32, order="C", ndmin=2)
    if not np.isfinite(out).all():
        bad = int((~np.isfinite(out).all(axis=1)).argmax())
        raise HardStop(
            "an embedding is not finite",
            expected="finite numbers",
            found=f"row {bad} of {len(out)}",
            hint="look at the image of that row, then embed again",
        )
    lengths = np.sqrt(np.einsum("ij,ij->i", out, out, dtype=np.float64))
    out /= np.where(lengths > 0, lengths, 1.0).astype(np.float32)[:, None]
    return out


class EmbeddingStore:
    """Embeddings of one encoder.

    Args:
        cache_dir: ``<workspace>/.deft/embeddings``.
        encoder_identity: whose embeddings; another encoder has another folder.

    Raises:
        HardStop: the folder belongs to another encoder (a digest collision or a tampered cache).
    """

    def __init__(self, cache_dir: Path, encoder_identity: EncoderIdentity) -> None:
        self.encoder = encoder_identity
        self.dir = cache_dir / encoder_identity.digest[:32]
        self.dir.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(self.dir)
        card = self.dir / "encoder.json"
        if not card.exists():
            atomic_write_json(card, encoder_identity.as_dict())
        elif read_json(card, what="encoder card") != encoder_identity.as_dict():
            raise HardStop("an embedding cache belongs to another encoder", found=str(card), hint=f"remove {self.dir}")
        self._parts: list[tuple[np.ndarray, np.memmap[Any, Any]]] = []
        self._names: list[str] = []
        self._ids: np.ndarray | None = None
        self._order: np.ndarray | None = None
        self._load()

    @property
    def dim(self) -> int | None:
        """Length of an embedding; ``None`` while the store is empty."""
        return self._parts[0][1].shape[1] if self._parts else None

    def __len__(self) -> int:
        """Distinct contents."""
        return 0 if self._ids is None else len(self._ids)

    def missing(self, content_ids: Sequence[str]) -> list[str]:
        """Ids that have no embedding yet: distinct, in first-seen order."""
        distinct = list(dict.fromkeys(content_ids))
        positions = self._positions(distinct)
        return [cid for cid, at in zip(distinct, positions, strict=True) if at < 0]

    def add(self, content_ids: Sequence[str], embeddings: np.ndarray) -> int:
        """Add embeddings as one atomic part; ids that are there already are skipped.

        Args:
            content_ids: ``N`` ids.
            embeddings: ``(N, D)``; normalised here.

        Returns:
            The number that was new.

        Raises:
            HardStop: other length than the ids, other ``D`` than the store, or a value that is not finite.
        """
        import numpy as np

        matrix = np.asarray(embeddings)
        if matrix.ndim != 2 or len(matrix) != len(content_ids):
            raise HardStop(
                "embeddings and ids do not match",
                expected=f"({len(content_ids)}, D) numbers",
                found=f"shape {matrix.shape}",
                hint="embed again: one row for each id",
            )
        if self.dim is not None and matrix.shape[1] != self.dim:
            raise HardStop(
                f"the encoder {self.encoder.name} changed its size",
                expected=f"{self.dim} numbers",
                found=f"{matrix.shape[1]}",
                hint="one folder holds one model: give a changed encoder another name or folder",
            )
        first = {cid: i for i, cid in reversed(list(enumerate(content_ids)))}
        rows = [first[cid] for cid in self.missing(content_ids)]
        if not rows:
            return 0
        ids = [content_ids[i] for i in rows]
        self._write_part(ids, normalize_rows(matrix[rows]))
        self._load()
        return len(rows)

    def matrix(self, content_ids: Sequence[str]) -> np.ndarray:
        """Gather ``(N, D)`` float32, unit rows, in the order of ``content_ids``.

        Raises:
            HardStop: an id has no embedding.
        """
        return self.rows(content_ids)[:]

    def rows(self, content_ids: Sequence[str]) -> StoredRows:
        """Like :meth:`matrix`, read when indexed: for a pool that shall not be held in memory."""
        return StoredRows([part for _ids, part in self._parts], self._require(content_ids), self.dim or 0)

    def _require(self, content_ids: Sequence[str]) -> np.ndarray:
        positions = self._positions(content_ids)
        absent = int((positions < 0).sum())
        if absent:
            raise HardStop(
                f"{absent} of {len(content_ids)} samples have no embedding by {self.encoder.name}",
                expected="every sample embedded before mining",
                hint="run the embedding job for what store.missing() names",
            )
        return positions

    def _positions(self, content_ids: Sequence[str]) -> np.ndarray:
        """Row of each id over all parts, -1 where it is missing."""
        import numpy as np

        if self._ids is None or self._order is None or not len(self._ids) or not len(content_ids):
            return np.full(len(content_ids), -1, dtype=np.int64)
        wanted = np.array([str(c).encode("ascii") for c in content_ids], dtype=f"S{max(self._ids.dtype.itemsize, 64)}")
        at = np.searchsorted(self._ids, wanted)
        at = np.minimum(at, len(self._ids) - 1)
        return np.where(self._ids[at] == wanted, self._order[at], -1)

    def _write_part(self, ids: list[str], matrix: np.ndarray) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
        table = pa.table({"content_id": pa.array(ids), "embedding": vectors})
        metadata = {_METADATA_KEY: canonical_json(self.encoder.as_dict()).encode("ascii")}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="none", use_dictionary=False)
        path = self.dir / f"part-{len(self._names):06d}-{digest_json(ids)[:12]}.parquet"
        sums = {"npy": _write_npy(path.with_suffix(".npy"), matrix), "parquet": sha256_bytes(sink.getvalue())}
        atomic_write_json(path.with_suffix(".json"), sums)
        atomic_write_bytes(path, sink.getvalue())

    def _load(self) -> None:
        """Pick up parts that are new since the last look."""
        import numpy as np

        for path in sorted(self.dir.glob("part-*.parquet")):
            if path.name in self._names:
                continue
            part = self._read_part(path)
            if part is not None:
                self._names.append(path.name)
                self._parts.append(part)
        if self._parts:
            ids = np.concatenate([ids for ids, _matrix in self._parts])
            # np.unique keeps the first position of an id that two processes embedded at the same time.
            self._ids, self._order = np.unique(ids, return_index=True)

    def _read_part(self, path: Path) -> tuple[np.ndarray, np.memmap[Any, Any]] | None:
        """Ids and mapped embeddings of a part; a damaged part is set aside: it is a cache and is embedded again."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        sums = _read_checksums(path)
        try:
            if sums is not None and sha256_file(path) != sums.get("parquet"):
                raise ValueError("not the file that was written")
            parquet = pq.ParquetFile(path)
            owner = json.loads((parquet.schema_arrow.metadata or {})[_METADATA_KEY])
            ids = np.array(parquet.read(["content_id"]).column(0).to_pylist(), dtype="S64")
            dim = parquet.schema_arrow.field("embedding").type.list_size
        except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError):
            path.rename(path.with_suffix(".damaged"))
            return None
        if owner != self.encoder.as_dict():
            raise HardStop("embeddings of another encoder lie in this store", found=str(path), hint="remove that file")
        sidecar = path.with_suffix(".npy")
        same = sums is not None and sidecar.is_file() and sha256_file(sidecar) == sums["npy"]
        mapped = _map(sidecar, (len(ids), dim)) if same else None
        if mapped is None:
            column = parquet.read(["embedding"]).column(0).combine_chunks()
            values: Any = column.flatten() if len(column) else pa.array([], pa.float32())
            made = _write_npy(sidecar, values.to_numpy(zero_copy_only=False).reshape(len(ids), dim))
            atomic_write_json(path.with_suffix(".json"), {"npy": made, "parquet": sha256_file(path)})
            mapped = _map(sidecar, (len(ids), dim))
        return None if mapped is None else (ids, mapped)


class StoredRows:
    """``(N, D)`` float32 rows of a store's parts, each slice or index array read when it is asked for.

    Args:
        parts: mapped ``(n, D)`` matrices.
        positions: ``(N,)`` the wanted rows, counted through all parts.
        dim: D.
    """

    def __init__(self, parts: list[np.memmap[Any, Any]], positions: np.ndarray, dim: int) -> None:
        import numpy as np

        self._parts, self._positions = parts, positions
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (len(positions), dim)

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """A copy of these rows."""
        import numpy as np

        at = self._positions[rows]
        if not len(at):
            return np.empty((0, self.shape[1]), dtype=np.float32)
        of_part = np.searchsorted(self._starts, at, side="right") - 1
        used = np.unique(of_part)
        if len(used) == 1:
            return self._read(used[0], at)
        out = np.empty((len(at), self.shape[1]), dtype=np.float32)
        for number in used:
            mine = of_part == number
            out[mine] = self._read(number, at[mine])
        return out

    def _read(self, number: int, at: np.ndarray) -> np.ndarray:
        """Rows of one part, through its file: a touched row of a map would bring its neighbours into memory."""
        import numpy as np

        part = self._parts[number]
        at, dim = at - self._starts[number], self.shape[1]
        out = np.empty((len(at), dim), dtype=np.float32)
        cuts = [0, *(np.flatnonzero(np.diff(at) != 1) + 1).tolist(), len(at)]
        with Path(str(part.filename)).open("rb") as file:
            for first, last in zip(cuts, cuts[1:], strict=False):  # runs of consecutive rows
                file.seek(part.offset + int(at[first]) * dim * 4)
                if file.readinto(out[first:last].data) != (last - first) * dim * 4:
                    raise HardStop(
                        "an embedding file is shorter than it was",
                        expected="the file as it was opened",
                        found=str(part.filename),
                        hint="run the stage again: a damaged file is written again",
                    )
        return out


def zero_rows(vectors: np.ndarray | StoredRows) -> np.ndarray:
    """Rows of ``(N, D)`` that are zero throughout."""
    import numpy as np

    found = []
    for start in range(0, len(vectors), 65536):
        block = vectors[start : start + 65536]
        maybe = np.flatnonzero(block[:, :1] == 0)
        found.append(start + maybe[~block[maybe].any(axis=1)])
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _map(path: Path, shape: tuple[int, int]) -> np.memmap[Any, Any] | None:
    import numpy as np

    try:
        mapped = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    return mapped if mapped.shape == shape and mapped.dtype == np.float32 else None


def _read_checksums(path: Path) -> dict[str, Any] | None:
    """Digests of the files of this name; ``None`` where there are none that can be read: then the Parquet part is believed."""
    try:
        body = read_json(path.with_suffix(".json"), what="digests of embeddings")
    except HardStop:
        return None
    return body if isinstance(body, dict) and "npy" in body else None


def _write_npy(path: Path, matrix: np.ndarray) -> str:
    """Write the matrix for mapping; the digest of the file."""
    import numpy as np

    temp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temp.open("wb") as handle:
        np.save(handle, np.ascontiguousarray(matrix, dtype=np.float32))
        handle.flush()
        os.fsync(handle.fileno())
    digest = sha256_file(temp)
    temp.rename(path)
    fsync_dir(path.parent)
    return digest


def _clear_abandoned(folder: Path) -> None:
    """Remove what killed processes left half written: the process is gone, and so is an hour."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found = _TEMPORARY.fullmatch(path.name)
        try:
            if found and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS and not _alive(int(found[1])):
                path.unlink()
        except FileNotFoundError:
            continue


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
