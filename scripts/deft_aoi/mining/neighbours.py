"""Exact nearest neighbours in bounded memory, the same from every backend.

A block product in float32 proposes, an exact sum in float64 decides: each block keeps what reaches the present k-th
score less the rounding error of a float32 product, which after the first block is almost nothing, so the work on top of
the bare product is one comparison an element. The few survivors are scored again pair by pair, so neither block sizes nor
threads nor the backend can change the result, and equal similarities fall to the smaller ``tie_order``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.mining.defaults import BLOCK_BYTES, METRICS
from deft_aoi.mining.proposers import not_finite

if TYPE_CHECKING:
    import numpy as np

_RELATIVE_ERROR = 1e-5
"""Bound on the relative error of a float32 product of up to some thousand terms (seen: 1e-6 at 768)."""

_SEED_ROWS = 1024
_GROWTH = 8
_SETTLED_ROWS = 50_000
_MAX_TIES = 4096
"""A target with more undecided rows than this is decided exactly at once, so that ties cannot fill the memory."""

_CUDA_FROM_PRODUCTS = 500_000_000
BACKENDS = ("auto", "numpy", "faiss", "torch-cuda")


class Proposer(Protocol):
    """One backend: proposes what may be among the k best."""

    block_rows: int
    target_rows: int

    def propose(self, first: int, last: int, block: np.ndarray, floor: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
        """Rows (from 0 within ``first:last``), columns and scores in ``block`` that reach ``floor``.

        Where ``floor`` is ``-inf``, at least everything that reaches the block's own k-th score less the slack.
        """


def top_k(
    targets: np.ndarray,
    pool: np.ndarray,
    k: int,
    *,
    metric: str = "cosine",
    backend: str = "auto",
    block_bytes: int = BLOCK_BYTES,
    tie_order: np.ndarray | None = None,
    normalized: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``k`` nearest rows of ``pool`` for each row of ``targets``.

    Args:
        targets: ``(T, D)`` float32.
        pool: ``(N, D)`` float32; a memory map is read block by block and never held.
        k: neighbours a target; at most ``N`` come back.
        metric: ``cosine``, ``euclidean`` or ``manhattan``.
        backend: ``numpy``, ``faiss`` (Flat), ``torch-cuda``, or ``auto``: CUDA for large work where there is a GPU.
        block_bytes: budget for everything this function allocates beyond targets and result.
        tie_order: ``(N,)`` distinct integers; the smaller wins among equals. Default: the row number.
        normalized: the rows of ``pool`` have unit length already (only matters for ``cosine``).

    Returns:
        ``indices (T, k) int64`` and ``similarity (T, k) float32``, nearest first; higher is nearer: the cosine, or the
        negative distance.

    Raises:
        UsageError: unknown metric or backend, ``k`` below 1.
        HardStop: shapes that do not fit, numbers that are not finite.
        Blocked: the backend is not installed, or there is no GPU.
    """
    import numpy as np

    if metric not in METRICS or backend not in BACKENDS or k < 1:
        raise UsageError(
            "nearest neighbours: wrong argument",
            expected=f"metric in {METRICS}, backend in {BACKENDS}, k >= 1",
            found=f"metric={metric}, backend={backend}, k={k}",
        )
    queries = np.ascontiguousarray(targets, dtype=np.float32)
    if queries.ndim != 2 or pool.ndim != 2 or (len(queries) and len(pool) and queries.shape[1] != pool.shape[1]):
        raise HardStop(
            "target and pool embeddings do not fit",
            expected="(T, D) and (N, D)",
            found=f"{targets.shape} and {pool.shape}",
            hint="embed both with the same encoder",
        )
    k = min(k, len(pool))
    if not len(queries) or not k:
        return np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    if not np.isfinite(queries).all():
        raise HardStop(
            "a target's embedding is not finite",
            expected="finite numbers",
            hint="embed the targets again; look at the image whose row it is",
        )
    search = _Search(queries, pool, k, metric, normalized, block_bytes, tie_order)
    search.run(_proposer(backend, search))
    return search.result()


def _proposer(backend: str, search: _Search) -> Proposer:
    from deft_aoi.mining import proposers

    if backend == "auto":
        large = len(search.queries) * len(search.pool) >= _CUDA_FROM_PRODUCTS
        backend = "torch-cuda" if large and search.metric != "manhattan" and proposers.cuda_available() else "numpy"
    if search.metric == "manhattan" or backend == "numpy":
        return proposers.NumpyProposer(search)
    if backend == "faiss":
        return proposers.FaissProposer(search)
    if not proposers.cuda_available():
        raise Blocked("the backend torch-cuda needs PyTorch and a GPU", hint="use --backend numpy")
    return proposers.CudaProposer(search)


class _Search:
    """State of one search: the undecided rows of every target and the score that a new one must reach."""

    def __init__(
        self,
        queries: np.ndarray,
        pool: np.ndarray,
        k: int,
        metric: str,
        normalized: bool,
        block_bytes: int,
        tie_order: np.ndarray | None,
    ) -> None:
        import numpy as np

        self.pool, self.k, self.metric, self.block_bytes = pool, k, metric, block_bytes
        self.scale_columns = metric == "cosine" and not normalized
        self.raw_queries = queries
        lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
        self.query_lengths = lengths
        if metric == "cosine":
            queries = (queries / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(np.float32)
        self.queries = queries
        self.tie_order = np.arange(len(pool)) if tie_order is None else np.asarray(tie_order)
        self.longest = 1.0
        self.floor = np.full(len(queries), -np.inf, dtype=np.float32)
        self.rows = np.empty(0, np.int64)
        self.cols = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)

    def slack(self, kth: np.ndarray) -> np.ndarray:
        """How far below the k-th proposal an exact winner may have been proposed."""
        import numpy as np

        if self.metric == "cosine":
            return np.full(len(kth), _RELATIVE_ERROR, dtype=np.float64)
        if self.metric == "euclidean":
            return 2 * _RELATIVE_ERROR * (self.query_lengths * self.longest + self.longest**2 / 2)
        return 2 * _RELATIVE_ERROR * np.abs(kth)

    def run(self, proposer: Proposer) -> None:
        """Stream the pool once."""
        start, reader = 0, _BlockReader(self.pool, proposer.block_rows)
        found: list[tuple[np.ndarray, ...]] = []
        while start < len(self.pool):
            # A short first block sets every target's floor cheaply, and blocks grow from there: what passes the floor
            # by chance is some k for each doubling, so a long second block would propose thousands a target.
            size = max(_SEED_ROWS, 4 * self.k) if start == 0 else min(proposer.block_rows, _GROWTH * start)
            block = reader.read(start, min(start + size, len(self.pool)))
            if self.metric == "euclidean":
                longest = float((block * block).sum(1).max()) ** 0.5
                if not longest < float("inf"):
                    raise not_finite()
                self.longest = max(self.longest, longest)
            for first in range(0, len(self.queries), proposer.target_rows):
                last = min(first + proposer.target_rows, len(self.queries))
                rows, cols, scores = proposer.propose(first, last, block, self.floor[first:last], self.k)
                if len(rows):
                    found.append((rows + first, cols + start, scores))
                if sum(len(f[0]) for f in found) > max(1 << 20, 4 * self.k * len(self.queries)):
                    self._merge(found)
                    found = []
            start += len(block)
            # Late blocks propose next to nothing; a floor that is a little old proposes a little more, and is as exact.
            if (
                start < _SETTLED_ROWS
                or start >= len(self.pool)
                or sum(len(f[0]) for f in found) > self.k * len(self.queries) // 4
            ):
                self._merge(found)
                found = []

    def _merge(self, found: list[tuple[np.ndarray, ...]]) -> None:
        import numpy as np

        if not found:
            return
        rows = np.concatenate([self.rows, *(f[0] for f in found)])
        cols = np.concatenate([self.cols, *(f[1] for f in found)])
        scores = np.concatenate([self.scores, *(f[2] for f in found)])
        order = np.lexsort((-scores, rows))
        rows, cols, scores = rows[order], cols[order], scores[order]
        begin = np.searchsorted(rows, np.arange(len(self.queries)))
        counts = np.diff(np.append(begin, len(rows)))
        kth = np.full(len(self.queries), -np.inf)
        full = counts >= self.k
        kth[full] = scores[begin[full] + self.k - 1]
        with np.errstate(invalid="ignore"):
            self.floor = np.where(full, kth - self.slack(np.where(full, kth, 0.0)), -np.inf).astype(np.float32)
        keep = scores >= self.floor[rows]
        self.rows, self.cols, self.scores = rows[keep], cols[keep], scores[keep]
        if np.bincount(self.rows, minlength=1).max() > self.k + _MAX_TIES:
            self._decide()

    def _decide(self) -> np.ndarray:
        """Score the undecided rows exactly and keep the k best of each target; returns their similarities."""
        import numpy as np

        exact = self._exact()
        order = np.lexsort((self.tie_order[self.cols], -exact, self.rows))
        rows = self.rows[order]
        begin = np.searchsorted(rows, np.arange(len(self.queries)))
        order = order[np.arange(len(rows)) - begin[rows] < self.k]
        self.rows, self.cols, self.scores = self.rows[order], self.cols[order], self.scores[order]
        return exact[order]

    def _exact(self) -> np.ndarray:
        """Similarity of every undecided pair: summed in float64, given as float32."""
        import numpy as np

        out = np.empty(len(self.rows), dtype=np.float32)
        dim = self.pool.shape[1]
        step = max(1, min(8192, self.block_bytes // (64 * max(dim, 1))))
        # In the pool's order, so that a memory map is read forwards.
        order = np.argsort(self.cols, kind="stable")
        reader = _BlockReader(self.pool, step)
        for at in range(0, len(order), step):
            mine = order[at : at + step]
            left = self.raw_queries[self.rows[mine]].astype(np.float64)
            right = reader.gather(self.cols[mine]).astype(np.float64)
            if self.metric == "cosine":
                lengths = np.sqrt((left * left).sum(axis=1) * (right * right).sum(axis=1))
                value = (left * right).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)
            elif self.metric == "euclidean":
                value = -np.sqrt(((left - right) ** 2).sum(axis=1))
            else:
                value = -np.abs(left - right).sum(axis=1)
            out[mine] = value.astype(np.float32)
        return out

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and similarities, ``(T, k)`` each."""
        shape = (len(self.queries), self.k)
        similarity = self._decide()
        if len(similarity) != shape[0] * shape[1]:
            raise not_finite(f"{len(similarity)} of {shape[0] * shape[1]} found")
        return self.cols.reshape(shape), similarity.reshape(shape)


class _BlockReader:
    """Blocks of the pool; a memory map is read through its file into one buffer, so that it never becomes resident."""

    def __init__(self, pool: np.ndarray, block_rows: int) -> None:

        self.pool, self.block_rows = pool, block_rows
        self.file = open(pool.filename, "rb", buffering=0) if _is_whole(pool) else None  # noqa: PTH123, SIM115
        self.buffer: np.ndarray | None = None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start:stop`` as C-contiguous float32; valid until the next call."""
        import numpy as np

        if not isinstance(self.pool, np.ndarray):
            return self.pool.tensor[start:stop]  # a pool on the device is never copied
        if self.file is None:
            return np.ascontiguousarray(self.pool[start:stop], dtype=np.float32)
        if self.buffer is None or len(self.buffer) < stop - start:
            self.buffer = np.empty((max(self.block_rows, stop - start), self.pool.shape[1]), dtype=np.float32)
        out = self.buffer[: stop - start]
        view, width = memoryview(out).cast("B"), self.pool.shape[1] * 4
        self.file.seek(self.pool.offset + start * width)
        done = 0
        while done < len(view):
            got = self.file.readinto(view[done:])
            if not got:
                raise self._too_short()
            done += got
        return out

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Single rows, ascending; through the file too, since one touched row of a map brings its neighbours in."""
        import numpy as np

        if self.file is None:
            return np.asarray(self.pool[rows])
        distinct, inverse = np.unique(rows, return_inverse=True)
        out = np.empty((len(distinct), self.pool.shape[1]), dtype=np.float32)
        width = self.pool.shape[1] * 4
        for line, row in zip(out, distinct.tolist(), strict=True):
            if os.preadv(self.file.fileno(), [line], self.pool.offset + row * width) != width:
                raise self._too_short()
        return out[inverse]

    def _too_short(self) -> HardStop:
        return HardStop(
            "an embedding file is shorter than it says",
            found=str(self.pool.filename),
            hint="embed the pool again: prestage_pregen.py --force",
        )

    def __del__(self) -> None:
        if self.file is not None:
            self.file.close()


def _is_whole(pool: object) -> bool:
    """Whether ``pool`` maps the rest of its file (a slice of a map keeps the parent's offset, but is shorter)."""
    import numpy as np

    if not isinstance(pool, np.memmap) or not pool.flags.c_contiguous or pool.dtype != np.float32 or pool.filename is None:
        return False
    return bool(pool.offset + pool.nbytes == Path(pool.filename).stat().st_size)
