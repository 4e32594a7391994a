"""The pair feature: rows and columns kept, encoder identity, what the embedding sees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deft_aoi.engines.embedded import checkpoint


@pytest.fixture
def model(engine, tiny) -> Path:
    engine.ok("visual_changenet", "train", "-e", tiny.write_spec(), "train.num_epochs=6", "train.checkpoint_interval=6")
    return tiny.root / "results" / "train" / checkpoint.LATEST


def make_input(tiny, name: str = "train", **replaced: str) -> Path:
    rows = tiny.add_rows("train", 24, 8, seed=1)
    images = tiny.root / "images"
    table = [
        {
            "extra": number,
            "sample_id": row[3],
            "light": "L",
            "label": row[2],
            "filepath": str(images / row[0] / f"{row[3]}_L.png"),
            "golden_filepath": str(images / row[1] / f"{row[3]}_L.png"),
            **replaced,
        }
        for number, row in enumerate(rows)
    ]
    path = tiny.root / "in.parquet"
    pq.write_table(pa.Table.from_pylist(table), path)
    return path


def embed(engine, tiny, model: Path, source: Path, name: str = "out.parquet") -> pa.Table:
    spec = tiny.root / "embed.yaml"
    spec.write_text("model: pair_feature\nbatch_size: 5\n")
    engine.ok(
        "embedding",
        "image_embeddings",
        "-e",
        spec,
        f"model_path={model}",
        f"input_parquet={source}",
        f"output_parquet={tiny.root / name}",
    )
    return pq.read_table(tiny.root / name)


def vectors(table: pa.Table) -> np.ndarray:
    return np.stack(table.column("embedding").to_numpy(zero_copy_only=False))


def test_rows_and_columns_are_kept_and_the_encoder_is_named(engine, tiny, model):
    source = make_input(tiny)
    table = embed(engine, tiny, model, source)
    given = pq.read_table(source)
    assert table.column_names == [*given.column_names, "embedding"]
    assert table.drop_columns(["embedding"]).to_pylist() == given.to_pylist()
    assert pa.types.is_fixed_size_list(table.schema.field("embedding").type)
    assert table.schema.field("embedding").type.value_type == pa.float32()
    assert np.allclose(np.linalg.norm(vectors(table), axis=1), 1, atol=1e-5)
    identity = json.loads(table.schema.metadata[b"deft_encoder"])
    assert identity["model"] == "pair_feature"
    assert identity["dim"] == vectors(table).shape[1]


def test_duplicate_paths_are_rows_of_their_own(engine, tiny, model):
    source = make_input(tiny)
    once = pq.read_table(source)
    pq.write_table(pa.concat_tables([once, once]), source)
    table = embed(engine, tiny, model, source)
    assert len(table) == 2 * len(once)
    found = vectors(table)
    assert np.allclose(found[: len(once)], found[len(once) :], atol=1e-4)


def test_defects_are_near_defects(engine, tiny, model):
    table = embed(engine, tiny, model, make_input(tiny))
    defect = np.array([label != "PASS" for label in table.column("label").to_pylist()])
    similar = vectors(table) @ vectors(table).T
    np.fill_diagonal(similar, -2)
    assert defect[similar[defect].argmax(1)].mean() > 0.8


def test_a_pair_without_a_difference_is_similar_to_nothing(engine, tiny, model):
    source = make_input(tiny)
    rows = pq.read_table(source).to_pylist()
    rows[3]["filepath"] = rows[3]["golden_filepath"]
    pq.write_table(pa.Table.from_pylist(rows), source)
    assert not vectors(embed(engine, tiny, model, source))[3].any()


def test_the_identity_follows_the_weights_not_the_file(engine, tiny, model):
    source = make_input(tiny)
    copy = tiny.root / "copy.pth"
    copy.write_bytes(model.read_bytes())
    other = tiny.root / "other"
    engine.ok("visual_changenet", "train", "-e", tiny.write_spec(), f"results_dir={other}", "train.seed=99")
    identities = [
        embed(engine, tiny, path, source, f"{n}.parquet").schema.metadata[b"deft_encoder"]
        for n, path in enumerate((model, copy, other / "train" / checkpoint.LATEST))
    ]
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize(
    ("replaced", "named"),
    [
        ({"filepath": "/nowhere/a.png"}, "row 1, column filepath"),
        ({"golden_filepath": "/nowhere/a.png"}, "row 1, column golden_filepath"),
        ({"golden_filepath": None}, "row 1, column golden_filepath"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_written(engine, tiny, model, replaced, named):
    source = make_input(tiny, **replaced)
    spec = tiny.root / "embed.yaml"
    spec.write_text("model: pair_feature\n")
    code, error = engine.call(
        "embedding",
        "image_embeddings",
        "-e",
        spec,
        f"model_path={model}",
        f"input_parquet={source}",
        f"output_parquet={tiny.root / 'o.parquet'}",
    )
    assert code == 1
    assert named in error
    assert not (tiny.root / "o.parquet").exists()


def test_a_missing_column_is_named(engine, tiny, model):
    source = make_input(tiny)
    pq.write_table(pq.read_table(source).drop_columns(["golden_filepath"]), source)
    (tiny.root / "embed.yaml").write_text("model: pair_feature\n")
    code, error = engine.call(
        "embedding",
        "image_embeddings",
        "-e",
        tiny.root / "embed.yaml",
        f"model_path={model}",
        f"input_parquet={source}",
        f"output_parquet={tiny.root / 'o.parquet'}",
    )
    assert code == 1
    assert "'golden_filepath'" in error
