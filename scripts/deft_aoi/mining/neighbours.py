"""Exact nearest neighbours in bounded memory: the same result from NumPy and from a GPU, whatever the block sizes.

1. The pool is read in blocks. Each block is multiplied with the targets in float32, and a row stays where its score reaches
   the target's k-th best so far, less the rounding error of a float32 product.
2. The few rows that stayed are scored again pair by pair in float64. The k best of each target are its neighbours; among
   equal similarities the smaller ``tie_order`` wins.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.mining.settings import BLOCK_BYTES, METRICS

if TYPE_CHECKING:
    import numpy as np

    from deft_aoi.mining.store import StoredRows

BACKENDS = ("auto", "numpy", "torch-cuda")

_RELATIVE_ERROR = 1e-5
"""Bound on the relative error of a float32 product of up to some thousand terms (seen: 1e-6 at 768)."""

_SEED_ROWS = 1024
_GROWTH = 8
_FEW_TARGETS = 256
_CUDA_FROM_PRODUCTS = 500_000_000
_MAX_TIES = 4096
"""A target with more undecided rows than this is decided at once, so that ties cannot fill the memory."""


def cuda_available() -> bool:
    """Whether PyTorch sees a GPU; does not import PyTorch where it is not installed."""
    if "torch" not in sys.modules and find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def top_k(
    targets: np.ndarray,
    pool: np.ndarray | StoredRows,
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
        pool: ``(N, D)`` float32; stored rows are read block by block and never held.
        k: neighbours a target; at most ``N`` come back.
        metric: ``cosine``, ``euclidean`` or ``manhattan``.
        backend: ``numpy``, ``torch-cuda``, or ``auto``: the GPU for large work where there is one.
        block_bytes: budget for everything this function allocates beyond targets and result.
        tie_order: ``(N,)`` distinct integers; the smaller wins among equals. Default: the row number.
        normalized: the rows of ``pool`` have unit length already (only matters for ``cosine``).

    Returns:
        ``indices (T, k) int64`` and ``similarity (T, k) float32``, nearest first; higher is nearer: the cosine, or the
        negative distance.

    Raises:
        UsageError: unknown metric or backend, ``k`` below 1.
        HardStop: shapes that do not fit, numbers that are not finite.
        Blocked: ``torch-cuda`` without PyTorch or a GPU.
    """
    import numpy as np

    if metric not in METRICS or backend not in BACKENDS or k < 1:
        raise UsageError(
            "nearest neighbours: wrong argument",
            expected=f"metric in {METRICS}, backend in {BACKENDS}, k >= 1",
            found=f"metric={metric}, backend={backend}, k={k}",
        )
    queries = np.ascontiguousarray(targets, dtype=np.float32)
    if queries.ndim != 2 or len(pool.shape) != 2 or (len(queries) and len(pool) and queries.shape[1] != pool.shape[1]):
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
    if backend == "auto":
        large = len(queries) * len(pool) >= _CUDA_FROM_PRODUCTS
        backend = "torch-cuda" if large and metric != "manhattan" and cuda_available() else "numpy"
    if backend == "torch-cuda" and not cuda_available():
        raise Blocked("the backend torch-cuda needs PyTorch and a GPU", hint="use --backend numpy")
    scorer = _NumpyScorer if backend == "numpy" or metric == "manhattan" else _CudaScorer
    tie_order = np.arange(len(pool)) if tie_order is None else np.asarray(tie_order)
    search = _Search(queries, pool, k, metric, block_bytes, tie_order)
    search.run(scorer(search, normalized=normalized))
    return search.result()


class _Search:
    """The undecided rows of every target, and the score that a further one must reach."""

    def __init__(
        self, queries: np.ndarray, pool: np.ndarray | StoredRows, k: int, metric: str, block_bytes: int, tie_order: np.ndarray
    ) -> None:
        import numpy as np

        self.queries, self.pool, self.k, self.metric, self.block_bytes = queries, pool, k, metric, block_bytes
        self.tie_order = tie_order
        self.lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
        self.longest = 1.0
        """Length of the longest pool row so far (``euclidean``)."""
        self.kth = np.full(len(queries), -np.inf)
        self.rows = np.empty(0, np.int64)
        self.cols = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)

    def floor(self, kth: np.ndarray, first: int, last: int) -> np.ndarray:
        """The least float32 score of a row that may be nearer than the target's k-th: ``kth`` less twice its error."""
        import numpy as np

        if self.metric == "cosine":
            slack = np.full(last - first, _RELATIVE_ERROR)
        elif self.metric == "euclidean":
            slack = 2 * _RELATIVE_ERROR * (self.lengths[first:last] * self.longest + self.longest**2 / 2)
        else:
            slack = 2 * _RELATIVE_ERROR * np.abs(kth)
        return np.asarray(kth - 2 * slack, dtype=np.float32)

    def run(self, scorer: _NumpyScorer) -> None:
        """Read the pool once."""
        start = pending = 0
        found: list[tuple[np.ndarray, ...]] = []
        while start < len(self.pool):
            # A short first block sets every floor cheaply, and blocks grow from there: what reaches the floor by chance
            # is some k for each doubling, so a long second block would keep thousands a target.
            size = max(_SEED_ROWS, 4 * self.k) if start == 0 else min(scorer.block_rows, _GROWTH * start)
            block = self.pool[start : start + size]
            scorer.load(block)
            for first in range(0, len(self.queries), scorer.target_rows):
                last = min(first + scorer.target_rows, len(self.queries))
                floor = None if start == 0 else self.floor(self.kth[first:last], first, last)
                rows, cols, scores = scorer.reaching(first, last, floor)
                found.append((rows + first, cols + start, scores))
                pending += len(rows)
            start += len(block)
            # Late blocks add next to nothing; a floor that is a little old keeps a little more, and is as exact.
            if pending > self.k * len(self.queries) // 4:
                self._merge(found)
                found, pending = [], 0
        self._merge(found)

    def _merge(self, found: list[tuple[np.ndarray, ...]]) -> None:
        import numpy as np

        rows = np.concatenate([self.rows, *(f[0] for f in found)])
        cols = np.concatenate([self.cols, *(f[1] for f in found)])
        scores = np.concatenate([self.scores, *(f[2] for f in found)])
        order = np.lexsort((-scores, rows))
        rows, cols, scores = rows[order], cols[order], scores[order]
        begin = np.searchsorted(rows, np.arange(len(self.queries)))
        full = np.diff(np.append(begin, len(rows))) >= self.k
        self.kth[full] = scores[begin[full] + self.k - 1]
        keep = scores >= self.floor(self.kth, 0, len(self.queries))[rows]
        self.rows, self.cols, self.scores = rows[keep], cols[keep], scores[keep]
        if np.bincount(self.rows, minlength=1).max() > self.k + _MAX_TIES:
            self._decide()

    def _decide(self) -> np.ndarray:
        """Keep the k best of each target by their exact similarities, which are returned."""
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
        step = max(1, min(8192, self.block_bytes // (64 * max(self.pool.shape[1], 1))))
        order = np.argsort(self.cols, kind="stable")  # in the pool's order, so that files are read forwards
        for at in range(0, len(order), step):
            mine = order[at : at + step]
            left = self.queries[self.rows[mine]].astype(np.float64)
            right = np.asarray(self.pool[self.cols[mine]]).astype(np.float64)
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
            raise _not_finite(f"{len(similarity)} of {shape[0] * shape[1]} found")
        return self.cols.reshape(shape), similarity.reshape(shape)


class _NumpyScorer:
    """Float32 scores of a block of the pool: cosine, ``q·p - |p|²/2`` for euclidean, negative Manhattan distance."""

    def __init__(self, search: _Search, *, normalized: bool) -> None:
        import numpy as np

        self.search, self.metric = search, search.metric
        self.lengths_needed = search.metric == "euclidean" or (search.metric == "cosine" and not normalized)
        self.queries = search.queries
        if search.metric == "cosine":
            self.queries = (self.queries / np.where(search.lengths > 0, search.lengths, 1.0)[:, None]).astype(np.float32)
        # A quarter of the budget for the pool's block, half for its scores, the rest for what is being merged.
        self.block_rows = min(4096, max(64, search.block_bytes // 4 // (4 * max(search.pool.shape[1], 1))))
        self.target_rows = min(2048, max(1, search.block_bytes // 2 // (5 * max(self.block_rows, _SEED_ROWS))))
        self.block: Any = None
        self.squares: Any = None

    def load(self, block: np.ndarray) -> None:
        """Take the next block.

        Raises:
            HardStop: a number is not finite.
        """
        import numpy as np

        self.block = np.ascontiguousarray(block, dtype=np.float32)
        if self.metric == "manhattan":
            if not np.isfinite(self.block).all():
                raise _not_finite()
        elif self.lengths_needed:
            self.squares = np.einsum("ij,ij->i", self.block, self.block, dtype=np.float64)
            if not np.isfinite(self.squares).all():
                raise _not_finite()
            self.search.longest = max(self.search.longest, float(self.squares.max()) ** 0.5)

    def reaching(self, first: int, last: int, floor: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """Rows (from 0 within ``first:last``), columns and scores in the block that reach ``floor``.

        ``None``: that reach the floor which the block itself sets.
        """
        import numpy as np

        scores = self._scores(first, last)
        if floor is None:
            at = scores.shape[1] - self.search.k
            floor = self.search.floor(np.partition(scores, at, axis=1)[:, at], first, last)
        near = np.flatnonzero(scores.max(axis=1) >= floor)  # late in the pool few targets have a hit
        part = scores[near]
        rows, cols = np.divmod(np.flatnonzero(part >= floor[near, None]), scores.shape[1])
        return near[rows], cols, part[rows, cols]

    def _scores(self, first: int, last: int) -> np.ndarray:
        import numpy as np

        queries, block = self.queries[first:last], self.block
        scores: np.ndarray
        if self.metric == "manhattan":
            scores = np.empty((len(queries), len(block)), dtype=np.float32)
            step = max(1, (8 << 20) // (4 * block.shape[1]))
            for at in range(0, len(block), step):
                part = block[at : at + step]
                buffer = np.empty_like(part)
                for row, query in enumerate(queries):
                    np.abs(np.subtract(part, query, out=buffer), out=buffer)
                    scores[row, at : at + step] = -buffer.sum(axis=1)
            return scores
        # BLAS is up to twice as fast on a tall product than on a wide one when one side is short.
        scores = (block @ queries.T).T if len(queries) <= _FEW_TARGETS else queries @ block.T
        if self.metric == "euclidean":
            scores -= (self.squares / 2).astype(np.float32)
        elif self.lengths_needed:
            scores *= (1.0 / np.sqrt(np.where(self.squares > 0, self.squares, 1.0))).astype(np.float32)
        return scores


class _CudaScorer(_NumpyScorer):
    """The same on a GPU; float32 products, TF32 off."""

    def __init__(self, search: _Search, *, normalized: bool) -> None:
        import torch

        super().__init__(search, normalized=normalized)
        # The budget is for host memory; on the device the scores take a quarter of what is free.
        free, _total = torch.cuda.mem_get_info()
        self.target_rows = min(len(search.queries), 8192)
        widest = max(4096, int(free // 4 // (5 * self.target_rows)))
        host = max(64, search.block_bytes // 2 // (4 * max(search.pool.shape[1], 1)))
        self.block_rows = min(widest, host, (1 << 30) // self.target_rows)  # torch.nonzero takes fewer than 2**31 elements
        self.on_device = torch.from_numpy(self.queries).cuda()

    def load(self, block: np.ndarray) -> None:
        """Take the next block and copy it to the GPU."""
        import numpy as np
        import torch

        self.block = torch.from_numpy(np.ascontiguousarray(block, dtype=np.float32)).cuda()
        if self.lengths_needed:
            self.squares = torch.linalg.vector_norm(self.block, dim=1) ** 2
            if not bool(torch.isfinite(self.squares).all()):
                raise _not_finite()
            self.search.longest = max(self.search.longest, float(self.squares.max()) ** 0.5)

    def reaching(self, first: int, last: int, floor: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """See :meth:`_NumpyScorer.reaching`."""
        import torch

        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            scores = self.on_device[first:last] @ self.block.T
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
        if self.metric == "euclidean":
            scores -= self.squares / 2
        elif self.lengths_needed:
            scores /= torch.where(self.squares > 0, self.squares.sqrt(), 1.0)
        if floor is None:
            kth = torch.topk(scores, self.search.k, dim=1).values[:, -1].cpu().numpy()
            floor = self.search.floor(kth, first, last)
        hits = torch.nonzero(scores >= torch.from_numpy(floor).cuda()[:, None])
        return hits[:, 0].cpu().numpy(), hits[:, 1].cpu().numpy(), scores[hits[:, 0], hits[:, 1]].cpu().numpy()


def _not_finite(found: str = "") -> HardStop:
    return HardStop(
        "a pool embedding is not finite",
        expected="finite numbers",
        found=found,
        hint="embed the pool again: prestage_pregen.py --force",
    )
