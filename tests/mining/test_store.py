"""The embedding store and the job's tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import sha256_bytes
from deft_aoi.mining import jobs
from deft_aoi.mining.pool import write_parquet
from deft_aoi.mining.store import EmbeddingStore, EncoderIdentity, normalize_rows, zero_rows

ENCODER = EncoderIdentity("pair_feature", "ab" * 32, "64x64 lights=SolderLight")


def _ids(count, salt=""):
    return [sha256_bytes(f"{salt}{i}".encode()) for i in range(count)]


def test_what_is_added_comes_back_in_the_order_asked_for_and_unit_length(tmp_path):
    store, ids = EmbeddingStore(tmp_path, ENCODER), _ids(20)
    raw = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32) * 7
    assert store.missing(ids + ids) == ids
    assert store.add(ids[:12], raw[:12]) == 12
    assert store.missing(ids) == ids[12:]
    assert store.add(ids, raw) == 8
    again = EmbeddingStore(tmp_path, ENCODER)
    order = [ids[i] for i in (13, 2, 19, 2, 0)]
    got = again.matrix(order)
    assert np.allclose(got, normalize_rows(raw)[[13, 2, 19, 2, 0]])
    assert np.allclose(np.linalg.norm(got, axis=1), 1)
    rows = again.rows(order)
    assert rows.shape == (5, 8)
    assert np.array_equal(rows[1:4], got[1:4])
    assert np.array_equal(rows[np.array([4, 0])], got[[4, 0]])
    assert zero_rows(np.array([[0, 1], [0, 0], [1, 0], [0, 0]])).tolist() == [1, 3]
    assert len(again) == 20
    assert again.dim == 8


def test_encoders_do_not_mix(tmp_path):
    first = EmbeddingStore(tmp_path, ENCODER)
    first.add(_ids(3), np.eye(3))
    other = EmbeddingStore(tmp_path, EncoderIdentity("pair_feature", "cd" * 32, ENCODER.preprocessing))
    assert other.missing(_ids(3)) == _ids(3)
    part = next(first.dir.glob("part-*.parquet"))
    (other.dir / part.name).write_bytes(part.read_bytes())
    with pytest.raises(HardStop, match="another encoder"):
        EmbeddingStore(tmp_path, other.encoder)


def test_parts_are_fixed_size_float32_with_the_encoder_in_their_metadata(tmp_path):
    store = EmbeddingStore(tmp_path, ENCODER)
    store.add(_ids(3), np.eye(3))
    schema = pq.read_schema(next(store.dir.glob("part-*.parquet")))
    assert schema.field("embedding").type == pa.list_(pa.float32(), 3)
    assert json.loads(schema.metadata[b"deft_aoi.encoder"]) == ENCODER.as_dict()


def test_a_damaged_part_is_embedded_again_and_a_lost_sidecar_is_rebuilt(tmp_path):
    store = EmbeddingStore(tmp_path, ENCODER)
    store.add(_ids(3, "a"), np.eye(3))
    store.add(_ids(3, "b"), np.eye(3)[::-1])
    first, second = sorted(store.dir.glob("part-*.parquet"))
    first.write_bytes(first.read_bytes()[:40])
    second.with_suffix(".npy").unlink()
    again = EmbeddingStore(tmp_path, ENCODER)
    assert again.missing(_ids(3, "a") + _ids(3, "b")) == _ids(3, "a")
    assert np.array_equal(again.matrix(_ids(3, "b")), np.eye(3)[::-1])
    again.add(_ids(3, "a"), np.eye(3))
    assert np.array_equal(EmbeddingStore(tmp_path, ENCODER).matrix(_ids(3, "a")), np.eye(3))


@pytest.mark.parametrize("bad", [np.full((2, 3), np.nan), np.zeros((3, 3)), np.zeros((2, 4)), np.zeros(2)])
def test_wrong_numbers_are_refused_and_nothing_is_stored(tmp_path, bad):
    store = EmbeddingStore(tmp_path, ENCODER)
    store.add(_ids(1, "z"), np.ones((1, 3)))
    with pytest.raises(HardStop):
        store.add(_ids(2), bad)
    assert store.missing(_ids(2)) == _ids(2)


def test_missing_embeddings_stop_a_gather(tmp_path):
    with pytest.raises(HardStop, match="no embedding"):
        EmbeddingStore(tmp_path, ENCODER).matrix(_ids(1))


def _per_light(samples, lights):
    rows = []
    for sample, content, path in samples:
        rows += [
            {
                "sample_id": sample,
                "light": light,
                "filepath": f"{path}_{light}.png",
                "golden_filepath": f"g/{path}_{light}.png",
                "content_id": content,
            }
            for light in lights
        ]
    return pd.DataFrame(rows)


def _answer(path, out, pair):
    """What the command would do: one vector for each row it was given, made from the path alone."""
    table = pq.read_table(path).to_pandas()
    table["embedding"] = [[float(len(p)), float(ord(p[-5])), 1.0] for p in table["filepath"]]
    write_parquet(table.sample(frac=1, random_state=0) if pair else table[["filepath", "embedding"]], out)
    return table


@pytest.mark.parametrize("pair", [True, False])
def test_job_tables_round_trip_with_lights_in_order(tmp_path, pair):
    c = _ids(3)
    rows = _per_light([("s0", c[0], "a"), ("s1", c[1], "bb"), ("s2", c[1], "ccc"), ("s3", c[2], "dddd")], ("L", "M"))
    store = EmbeddingStore(tmp_path, ENCODER)
    store.add([c[2]], np.ones((1, 6)))
    todo = jobs.missing_rows(rows, store)
    assert todo["sample_id"].unique().tolist() == ["s0", "s1"]
    assert jobs.write_job_input(todo, tmp_path / "in.parquet", root=tmp_path, pair=pair) == 4
    given = _answer(tmp_path / "in.parquet", tmp_path / "out.parquet", pair)
    assert given["filepath"].str.startswith(str(tmp_path)).all()
    ids, vectors = jobs.read_job_output(todo, tmp_path / "out.parquet", root=tmp_path, lights=("L", "M"), pair=pair)
    assert ids == [c[0], c[1]]
    assert vectors.shape == (2, 6)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    left = normalize_rows(np.array([[len(f"{tmp_path}/a_L.png"), ord("L"), 1.0]]))[0]
    right = normalize_rows(np.array([[len(f"{tmp_path}/a_M.png"), ord("M"), 1.0]]))[0]
    assert np.allclose(vectors[0], np.concatenate([left, right]) / np.sqrt(2), atol=1e-6)
    store.add(ids, vectors)
    assert len(jobs.missing_rows(rows, store)) == 0


def test_an_appearance_encoder_never_gets_a_path_twice(tmp_path):
    c = _ids(2)
    rows = _per_light([("s0", c[0], "same"), ("s1", c[1], "same")], ("L",))
    assert jobs.write_job_input(rows, tmp_path / "in.parquet", root=tmp_path, pair=False) == 1
    assert jobs.write_job_input(rows, tmp_path / "in2.parquet", root=tmp_path, pair=True) == 2
    _answer(tmp_path / "in.parquet", tmp_path / "out.parquet", False)
    ids, vectors = jobs.read_job_output(rows, tmp_path / "out.parquet", root=tmp_path, lights=("L",), pair=False)
    assert ids == c
    assert np.array_equal(vectors[0], vectors[1])


def test_an_incomplete_or_doubled_answer_stops(tmp_path):
    rows = _per_light([("s0", "x", "a"), ("s1", "y", "b")], ("L",))
    jobs.write_job_input(rows, tmp_path / "in.parquet", root=tmp_path, pair=True)
    table = _answer(tmp_path / "in.parquet", tmp_path / "out.parquet", True)
    for broken, word in ((table.iloc[:1], "left out"), (pd.concat([table, table]), "twice")):
        write_parquet(broken, tmp_path / "out.parquet")
        with pytest.raises(HardStop, match=word):
            jobs.read_job_output(rows, tmp_path / "out.parquet", root=tmp_path, lights=("L",), pair=True)
    uneven = table.assign(embedding=[[1.0], [1.0, 2.0]])
    write_parquet(uneven, tmp_path / "out.parquet")
    with pytest.raises(HardStop, match="differ in length"):
        jobs.read_job_output(rows, tmp_path / "out.parquet", root=tmp_path, lights=("L",), pair=True)


def test_what_killed_processes_left_half_written_is_cleared(tmp_path):
    folder = EmbeddingStore(tmp_path, ENCODER).dir
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old, young, mine, other = (
        folder / name for name in (f".part-0.npy.{gone.pid}.tmp", f".young.{gone.pid}.tmp", f".m.{os.getpid()}.tmp", ".note.tmp")
    )
    for path in (old, young, mine, other):
        path.write_bytes(b"half")
    for path in (old, mine, other):
        os.utime(path, (1, 1))
    EmbeddingStore(tmp_path, ENCODER)
    assert [path.exists() for path in (old, young, mine, other)] == [False, True, True, True]


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".json"])
def test_changed_embeddings_are_never_given_out(tmp_path, suffix):
    """One changed byte in a part: made again from the Parquet file, or embedded again; never the changed numbers."""
    ids, vectors = [f"{n:064x}" for n in range(8)], np.random.default_rng(1).normal(size=(8, 16))
    store = EmbeddingStore(tmp_path, ENCODER)
    store.add(ids, vectors)
    expected = store.matrix(ids)
    (part,) = store.dir.glob(f"part-*{suffix}")
    clean = part.read_bytes()
    for at in range(0, len(clean), 3):
        part.write_bytes(clean[:at] + bytes([clean[at] ^ 4]) + clean[at + 1 :])
        again = EmbeddingStore(tmp_path, ENCODER)
        missing = again.missing(ids)
        assert missing in ([], ids)
        if missing:
            again.add(ids, vectors)
        assert np.array_equal(again.matrix(ids), expected), at
        for damaged in again.dir.glob("*.damaged"):
            damaged.unlink()
        (part,) = again.dir.glob(f"part-*{suffix}")
        clean = part.read_bytes()
