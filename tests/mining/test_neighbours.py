"""Exact neighbours: against a plain reference, for every backend, block size and layout."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.mining.neighbours import cuda_available, top_k
from deft_aoi.mining.store import StoredRows

METRICS = {"cosine": "cosine", "euclidean": "euclidean", "manhattan": "cityblock"}


def _available(name):
    if name == "torch-cuda" and not cuda_available():
        return pytest.param(name, marks=pytest.mark.skip(reason="no GPU"))
    return pytest.param(name)


BACKENDS = [_available(name) for name in ("numpy", "torch-cuda")]


def _reference(targets, pool, k, metric, tie_order=None):
    distance = cdist(targets.astype(np.float64), pool.astype(np.float64), METRICS[metric])
    similarity = (1 - distance if metric == "cosine" else -distance).astype(np.float32)
    tie = np.arange(len(pool)) if tie_order is None else tie_order
    order = np.array([np.lexsort((tie, -row))[:k] for row in similarity])
    return order, np.take_along_axis(similarity, order, 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("block_bytes", [1 << 16, 1 << 28])
def test_every_backend_finds_the_reference_neighbours(backend, metric, block_bytes):
    rng = np.random.default_rng(1)
    pool = rng.standard_normal((3000, 32)).astype(np.float32)
    targets = np.concatenate([rng.standard_normal((40, 32)), pool[5:7]]).astype(np.float32)
    indices, similarity = top_k(targets, pool, 5, metric=metric, backend=backend, block_bytes=block_bytes)
    expected, value = _reference(targets, pool, 5, metric)
    assert np.array_equal(indices, expected)
    assert np.abs(similarity - value).max() < 1e-5
    assert indices.dtype == np.int64
    assert similarity.dtype == np.float32


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("block_bytes", [1 << 15, 1 << 18, 1 << 28])
def test_ties_fall_to_the_smaller_tie_order_whatever_the_blocks(backend, block_bytes):
    rng = np.random.default_rng(2)
    pool = rng.standard_normal((2500, 16)).astype(np.float32)
    copies = rng.choice(2500, 300, replace=False)
    pool[copies] = pool[copies[0]]
    tie_order = rng.permutation(2500)
    indices, similarity = top_k(pool[copies[:3]], pool, 7, backend=backend, block_bytes=block_bytes, tie_order=tie_order)
    expected = copies[np.argsort(tie_order[copies])][:7]
    assert indices.tolist() == [expected.tolist()] * 3
    assert np.allclose(similarity, 1)


def test_a_pool_of_nothing_but_ties_stays_bounded_and_right():
    pool = np.ones((30_000, 8), np.float32)
    indices, _ = top_k(np.ones((20, 8), np.float32), pool, 5, block_bytes=1 << 20)
    assert (indices == np.arange(5)).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 60),
    targets=st.integers(1, 9),
    dim=st.integers(1, 6),
    k=st.integers(1, 70),
    metric=st.sampled_from(list(METRICS)),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_small_cases_with_many_duplicates_match_the_reference(seed, size, targets, dim, k, metric, scale):
    rng = np.random.default_rng(seed)
    # Few distinct values: ties, zero rows and repeated rows are common.
    pool = (rng.integers(-1, 2, (size, dim)) * scale).astype(np.float32)
    queries = (rng.integers(-1, 2, (targets, dim)) * scale).astype(np.float32)
    if metric == "cosine":
        pool[(pool == 0).all(axis=1)] = scale
        queries[(queries == 0).all(axis=1)] = scale
    indices, similarity = top_k(queries, pool, k, metric=metric)
    expected, value = _reference(queries, pool, min(k, size), metric)
    assert np.allclose(similarity, value, atol=1e-5 * max(scale, 1))
    for row in range(targets):
        assert len(set(indices[row])) == min(k, size)
    rounded = np.round(value / scale if metric != "cosine" else value, 5)
    if all(len(set(r)) == len(r) for r in rounded.tolist()):
        assert np.array_equal(indices, expected)


def test_stored_rows_give_the_same_in_any_order_and_from_several_parts(tmp_path):
    rng = np.random.default_rng(3)
    pool = rng.standard_normal((5000, 24)).astype(np.float32)
    parts = []
    for name, part in (("a", pool[:3000]), ("b", pool[3000:3001]), ("c", pool[3001:])):
        np.save(tmp_path / f"{name}.npy", part)
        parts.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    for positions in (np.arange(5000), np.arange(100, 5000, 2), rng.permutation(5000)):
        left = top_k(pool[::97], StoredRows(parts, positions, 24), 4, block_bytes=1 << 17)
        right = top_k(pool[::97], pool[positions], 4, block_bytes=1 << 20)
        assert np.array_equal(left[0], right[0])
        assert np.array_equal(left[1], right[1])


def test_memory_stays_within_the_stated_budget_for_a_streamed_pool(tmp_path):
    """A pool of 200 MB with a budget of 16 MB must not take 200 MB."""
    rows, dim = 200_000, 256
    out = np.lib.format.open_memmap(tmp_path / "pool.npy", mode="w+", dtype=np.float32, shape=(rows, dim))
    rng = np.random.default_rng(0)
    for at in range(0, rows, 50_000):
        out[at : at + 50_000] = rng.random((50_000, dim), dtype=np.float32)
    out.flush()
    del out
    code = (
        "import re, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from deft_aoi.mining.neighbours import top_k\n"
        "from deft_aoi.mining.store import StoredRows\n"
        "part = np.load(sys.argv[1], mmap_mode='r'); targets = np.array(part[:200])\n"
        "top_k(targets[:2], np.array(part[:3000]), 2)\n"
        # The kernel's own high-water mark: ru_maxrss would carry over the parent's through fork and exec.
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024\n"
        "before = peak()\n"
        "i, s = top_k(targets, StoredRows([part], np.arange(len(part)), 256), 5, block_bytes=16 << 20)\n"
        "assert (i[:, 0] == np.arange(200)).all()\n"
        "print(peak() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "pool.npy"], capture_output=True, text=True, check=True)
    assert int(run.stdout) < (16 << 20) + (64 << 20)


def test_wrong_arguments_and_numbers_are_refused():
    good = np.eye(4, dtype=np.float32)
    for options in ({"metric": "dot"}, {"backend": "magic"}, {"k": 0}):
        with pytest.raises(UsageError):
            top_k(good, good, **{"k": 1, **options})
    with pytest.raises(HardStop):
        top_k(good, np.eye(5, dtype=np.float32), 1)
    bad = good.copy()
    bad[2, 2] = np.nan
    for targets, pool in ((bad, good), (good, bad)):
        with pytest.raises(HardStop, match="not finite"):
            top_k(targets, pool, 4)
    late = np.eye(3000, 8, dtype=np.float32)
    late[2500, 3] = np.inf
    for metric in METRICS:
        with pytest.raises(HardStop, match="not finite"):
            top_k(good[:, [0, 1, 2, 3] * 2], late, 2, metric=metric)
    if not cuda_available():
        with pytest.raises(Blocked):
            top_k(good, good, 1, backend="torch-cuda")
    assert top_k(good[:0], good, 3)[0].shape == (0, 3)
    assert top_k(good, good[:0], 3)[0].shape == (4, 0)
    assert top_k(good, good, 99)[0].shape == (4, 4)
