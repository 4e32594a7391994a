"""The backends of :mod:`deft_aoi.mining.neighbours`: NumPy/BLAS, FAISS Flat, PyTorch on CUDA."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import Blocked, HardStop

if TYPE_CHECKING:
    import numpy as np

    from deft_aoi.mining.neighbours import _Search


def cuda_available() -> bool:
    """Whether PyTorch sees a GPU; does not import PyTorch where it is not installed."""
    if "torch" not in sys.modules and find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def _block_shape(search: _Search, *, widest: int, tallest: int) -> tuple[int, int]:
    """Pool rows and target rows of a block such that block, product and mask stay within the budget."""
    dim = max(search.pool.shape[1], 1)
    # One quarter for the pool's block, one half for product and mask, the rest for what is being merged.
    rows = min(widest, max(64, search.block_bytes // 4 // (4 * dim)))
    rows = min(rows - rows % 8 or 8, max(8, len(search.pool) + 7 - (len(search.pool) + 7) % 8))
    targets = min(tallest, max(1, search.block_bytes // 2 // (5 * rows)), len(search.queries))
    return rows, targets


_FEW_TARGETS = 256


class NumpyProposer:
    """BLAS product, one comparison, and a look at eight answers at a time.

    The comparison stays in one thread: in several it was slower on 16 cores (1.8 against 1.4 times the bare product),
    since BLAS keeps its own threads spinning between products.
    """

    def __init__(self, search: _Search) -> None:
        import numpy as np

        self.search = search
        self.block_rows, self.target_rows = _block_shape(search, widest=4096, tallest=2048)
        seed = max(self.block_rows, 1024, 4 * search.k)
        self.product = np.empty((self.target_rows, seed), dtype=np.float32)
        self.mask = np.empty((self.target_rows, seed), dtype=bool)

    def propose(self, first: int, last: int, block: np.ndarray, floor: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
        """See :class:`deft_aoi.mining.neighbours.Proposer`."""
        import numpy as np

        count, width = last - first, len(block)
        product = self.product.reshape(-1)[: count * width].reshape(count, width)
        if count <= _FEW_TARGETS and self.search.metric != "manhattan":
            # BLAS is up to twice as fast on a tall product than on a wide one when one side is short.
            product = self.product.reshape(-1)[: count * width].reshape(width, count).T
        self._score(first, last, block, product)
        unset = np.isneginf(floor)
        if unset.any():
            floor = floor.copy()
            if width > k:
                kth = np.partition(product[unset], width - k, axis=1)[:, width - k]
                floor[unset] = kth - 2 * self.search.slack(np.full(len(self.search.queries), kth.min()))[first:last][unset]
        if product.flags.c_contiguous:
            # Late in the pool few targets have a hit: the largest of a row is found in one pass that writes nothing.
            near = np.flatnonzero(product.max(axis=1) >= floor)
            scores = product if 2 * len(near) > count else product[near]
            at, cols = self._reaching(scores, floor[:, None] if scores is product else floor[near, None])
            rows = at if scores is product else near[at]
        else:
            cols, rows = self._reaching(product.T, floor)
        return rows, cols, product[rows, cols]

    def _reaching(self, scores: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, ...]:
        """Lines and columns of ``scores`` (C-contiguous) that reach ``limits``, line by line."""
        import numpy as np

        flat = self.mask.reshape(-1)[: scores.size]
        np.greater_equal(scores, limits, out=flat.reshape(scores.shape))
        if flat.size % 8 == 0:
            # Hits are rare: find the eight-byte words that hold one, then the bytes.
            words = np.flatnonzero(flat.view(np.uint64))
            near = (words[:, None] * 8 + np.arange(8)).reshape(-1)
            hits = near[flat[near]]
        else:
            hits = np.flatnonzero(flat)
        return np.divmod(hits, scores.shape[1])

    def _score(self, first: int, last: int, block: np.ndarray, product: np.ndarray) -> None:
        import numpy as np

        queries, metric = self.search.queries[first:last], self.search.metric
        if metric == "manhattan":
            if not np.isfinite(block).all():
                raise not_finite()
            step = max(1, (8 << 20) // (4 * block.shape[1]))
            for at in range(0, len(block), step):
                part = block[at : at + step]
                buffer = np.empty_like(part)
                for row, query in enumerate(queries):
                    np.abs(np.subtract(part, query, out=buffer), out=buffer)
                    product[row, at : at + step] = -buffer.sum(axis=1)
            return
        if product.flags.c_contiguous:
            np.matmul(queries, block.T, out=product)
        else:
            np.matmul(block, queries.T, out=product.T)
        if metric == "euclidean":
            product -= np.einsum("ij,ij->i", block, block) / 2
        elif self.search.scale_columns:
            product *= inverse_lengths(block)


def not_finite(found: str = "") -> HardStop:
    """The error for a pool with a number that cannot be compared."""
    return HardStop(
        "a pool embedding is not finite",
        expected="finite numbers",
        found=found,
        hint="embed the pool again: prestage_pregen.py --force",
    )


def inverse_lengths(block: np.ndarray) -> np.ndarray:
    """One over each row's length as float32; 1 for a zero row.

    Raises:
        HardStop: a number is not finite.
    """
    import numpy as np

    lengths = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
    if not np.isfinite(lengths).all():
        raise not_finite()
    return (1.0 / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


class FaissProposer:
    """FAISS brute force a block, asked for more than k until a gap shows that nothing was cut off."""

    def __init__(self, search: _Search) -> None:
        if find_spec("faiss") is None:
            raise Blocked("the backend faiss is not installed", hint="pip install faiss-cpu, or use --backend numpy")
        self.search = search
        self.block_rows, self.target_rows = _block_shape(search, widest=65536, tallest=4096)

    def propose(self, first: int, last: int, block: np.ndarray, floor: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
        """See :class:`deft_aoi.mining.neighbours.Proposer`."""
        import faiss
        import numpy as np

        queries = self.search.queries[first:last]
        euclidean = self.search.metric == "euclidean"
        if self.search.scale_columns:
            block = block * inverse_lengths(block)[:, None]
        kind = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
        wanted = min(len(block), 2 * k + 8)
        while True:
            values, cols = faiss.knn(queries, block, wanted, metric=kind)
            if euclidean:
                # |q - p|² to q·p - |p|²/2, the score that the other backends give.
                values = ((queries * queries).sum(axis=1)[:, None] - values) / 2
            kth = values[:, min(k, wanted) - 1]
            bound = np.where(
                np.isneginf(floor), kth - 2 * self.search.slack(np.full(len(self.search.queries), 1.0))[first:last], floor
            )
            if wanted == len(block) or (values[:, -1] < bound).all():
                break
            wanted = min(len(block), 4 * wanted)
        rows, at = np.nonzero(values >= bound[:, None])
        return rows, cols[rows, at].astype(np.int64), values[rows, at].astype(np.float32)


class DevicePool:
    """A pool that lies on the GPU: give it to ``top_k`` in the pool's place, with the backend ``torch-cuda``.

    Args:
        tensor: ``(N, D)`` float32 on a CUDA device.
    """

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.shape: tuple[int, int] = tuple(tensor.shape)
        self.ndim = 2

    def __len__(self) -> int:
        """Rows."""
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Some rows, on the host."""
        import torch

        out: np.ndarray = self.tensor[torch.from_numpy(rows).to(self.tensor.device)].cpu().numpy()
        return out


class CudaProposer:
    """The NumPy backend's steps on a GPU; float32 products, TF32 off."""

    def __init__(self, search: _Search) -> None:
        import torch

        self.search = search
        # The budget is for host memory; on the device the product takes a quarter of what is free.
        free, _total = torch.cuda.mem_get_info()
        self.target_rows = min(len(search.queries), 8192)
        widest = max(4096, int(free // 4 // (5 * self.target_rows)))
        host = max(64, search.block_bytes // 2 // (4 * max(search.pool.shape[1], 1)))
        if isinstance(search.pool, DevicePool):
            host = len(search.pool)
        # torch.nonzero takes fewer than 2**31 elements.
        self.block_rows = min(widest, host, max(len(search.pool), 8), (1 << 30) // self.target_rows)
        self.queries = torch.from_numpy(search.queries).cuda()
        self._held: tuple[int, Any] | None = None

    def propose(self, first: int, last: int, block: np.ndarray, floor: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
        """See :class:`deft_aoi.mining.neighbours.Proposer`."""
        import numpy as np
        import torch

        if first == 0:
            self._held = (len(block), torch.from_numpy(block).cuda() if isinstance(block, np.ndarray) else block)
        assert self._held is not None
        return self.propose_on_device(first, last, self._held[1], floor, k)

    def propose_on_device(self, first: int, last: int, device: Any, floor: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
        """Like :meth:`propose` with a block that is on the GPU already."""
        import numpy as np
        import torch

        with torch.no_grad():
            before = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = False
            try:
                product = self.queries[first:last] @ device.T
            finally:
                torch.backends.cuda.matmul.allow_tf32 = before
            if self.search.metric == "euclidean":
                product -= (device * device).sum(dim=1) / 2
            elif self.search.scale_columns:
                lengths = torch.linalg.vector_norm(device, dim=1)
                product /= torch.where(lengths > 0, lengths, torch.ones_like(lengths))
            bound = floor
            if np.isneginf(floor).any() and product.shape[1] > k:
                kth = torch.topk(product, k, dim=1).values[:, -1].cpu().numpy()
                slack = 2 * self.search.slack(np.full(len(self.search.queries), float(kth.min())))[first:last]
                bound = np.where(np.isneginf(floor), kth - slack, floor).astype(np.float32)
            hits = torch.nonzero(product >= torch.from_numpy(bound).cuda()[:, None])
            scores = product[hits[:, 0], hits[:, 1]]
            return hits[:, 0].cpu().numpy(), hits[:, 1].cpu().numpy(), scores.cpu().numpy()
