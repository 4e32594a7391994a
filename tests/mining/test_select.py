"""Selection: each reason, the balance, determinism, the options, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.schema import validate
from deft_aoi.mining import outputs
from deft_aoi.mining import select as selection
from deft_aoi.mining.pool import row_keys, write_parquet
from deft_aoi.mining.select import Exclusions, select, with_filepath
from deft_aoi.mining.settings import MiningConfig
from deft_aoi.mining.store import EmbeddingStore, EncoderIdentity, normalize_rows

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def _pool(contents, labels, featureless=()):
    count = len(contents)
    frame = pd.DataFrame(
        {
            "input_path": ["ws/in"] * count,
            "golden_path": ["ws/g"] * count,
            "label": labels,
            "object_name": [f"R{i}" for i in range(count)],
            "boardname": "b",
            "provenance": ["sdg" if i % 5 == 4 else "real" for i in range(count)],
            "sample_id": [f"real-{i:08d}" for i in range(count)],
            "content_id": contents,
            "featureless": [i in featureless for i in range(count)],
        }
    )
    return with_filepath(frame, "L", ".png")


def _targets(labels):
    return pd.DataFrame({"filepath": [f"kpi/t{i}.png" for i in range(len(labels))], "label": labels})


def _line(*angles):
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def _decisions(mined):
    best = mined.pairs.groupby("sample_id")["decision"].agg(list)
    return {sample: ("kept" if "kept" in found else found[0]) for sample, found in best.items()}


def test_each_row_has_one_decision_with_its_reason_and_they_balance():
    contents = ["near", "far", "train", "leak", "twin", "twin", "clash", "clash", "never"]
    labels = ["open"] * 6 + ["open", "short", "open"]
    pool = _pool(contents, labels)
    vectors = _line(1, 40, 2, 3, 4, 4, 5, 5, 170)
    mined = select(
        _targets(["open"]),
        _line(0),
        pool,
        vectors,
        config=MiningConfig(top_k=6, min_similarity=0.9),
        encoder="x",
        exclusions=Exclusions({"train"}, leaks={"kpi": {"leak", "never"}, "validation": set()}),
        previous_kept=9,
    )
    assert _decisions(mined) == {
        "real-00000000": "kept",
        "real-00000001": "below_min_similarity",
        "real-00000002": "already_in_training",
        "real-00000003": "leaks",
        "real-00000004": "kept",
        "real-00000005": "duplicate_content",
        "real-00000006": "conflicting_labels",
        "real-00000007": "conflicting_labels",
    }
    assert mined.counts == {"targets": 1, "pool_rows": 9, "pairs": 8, "candidates": 8, "kept": 2, "rejected": 6}
    assert mined.leaks == {"kpi": 1}
    assert mined.pool_leaks == {"kpi": ("real-00000003", "real-00000008")}  # the second one is near no target
    assert '  Pool rows that are in kpi, never mined: 2: "real-00000003", "real-00000008"' in outputs.summary_lines(mined)
    assert mined.kept["object_name"].tolist() == ["R0", "R4"]
    assert mined.kept["target_ids"].tolist() == ["kpi/t0.png"] * 2
    assert "the yield fell" in mined.warnings[-1]


def test_a_featureless_row_is_mined_once_and_exempt_from_leaks_and_duplicates():
    pool = _pool(["white"] * 4 + ["x"], ["PASS"] * 5, featureless=range(4))
    vectors = _line(0, 0, 0, 0, 50)
    used = row_keys(pool.iloc[[1]])
    mined = select(
        _targets(["PASS"]),
        _line(0),
        pool,
        vectors,
        config=MiningConfig(top_k=3),
        encoder="x",
        exclusions=Exclusions({"white"}, used, {"kpi": {"white"}}),
    )
    assert _decisions(mined) == {"real-00000000": "kept", "real-00000001": "featureless", "real-00000002": "kept"}


def test_none_cuts_nothing_and_a_row_near_one_target_is_kept_though_far_from_another():
    pool = _pool(["a", "b"], ["PASS", "open"])
    vectors = _line(0, 180)
    free = select(_targets(["PASS"]), _line(0), pool, vectors, config=MiningConfig(top_k=2), encoder="x")
    assert free.counts["kept"] == 2
    cut = select(
        _targets(["PASS", "PASS"]), _line(0, 180), pool, vectors, config=MiningConfig(top_k=2, min_similarity=0.5), encoder="x"
    )
    assert cut.counts["kept"] == 2
    assert Counter(cut.pairs["decision"]) == {"kept": 2, "below_min_similarity": 2}


def test_the_label_filter_counts_what_it_rejects_and_the_premine_check_names_the_label():
    pool = _pool(["a", "b"], ["PASS", "open"])
    mined = select(
        _targets(["open", "缺件"]),
        _line(0, 1),
        pool,
        _line(0, 2),
        config=MiningConfig(top_k=2, filter_by_label=True),
        encoder="x",
    )
    assert mined.rejected["label_filter"] == 1
    assert mined.kept["label"].tolist() == ["open"]
    assert ["缺件" in w for w in mined.warnings] == [True]


def test_searching_eligible_rows_gives_the_places_of_used_ones_to_new_ones():
    pool = _pool(list("abcdef"), ["open"] * 6)
    vectors = _line(1, 2, 3, 4, 5, 6)
    excluded = Exclusions({"a", "b"})
    plain = select(_targets(["open"]), _line(0), pool, vectors, config=MiningConfig(top_k=2), encoder="x", exclusions=excluded)
    wide = select(
        _targets(["open"]),
        _line(0),
        pool,
        vectors,
        config=MiningConfig(top_k=2, search_eligible=True),
        encoder="x",
        exclusions=excluded,
    )
    assert plain.counts["kept"] == 0
    assert plain.rejected["already_in_training"] == 2
    assert wide.kept["object_name"].tolist() == ["R2", "R3"]


def test_quota_hard_pass_and_diversity():
    pool = _pool(list("abcdefgh"), ["PASS", "PASS", "PASS", "open", "open", "PASS", "short", "open"])
    vectors = _line(1, 2, 3, 4, 5, 6, 7, 8)
    one = MiningConfig(top_k=3, quota_per_label=1)
    assert select(_targets(["open"]), _line(0), pool, vectors, config=one, encoder="x").kept["label"].tolist() == [
        "PASS",
        "open",
        "short",
    ]
    hard = MiningConfig(top_k=4, hard_pass=True)
    got = select(_targets(["PASS", "open"]), _line(0, 8), pool, vectors, config=hard, encoder="x").pairs
    assert set(got[got["target_label"] == "PASS"]["label"]) == {"PASS"}
    assert set(got[got["target_label"] == "open"]["label"]) == {"open", "short", "PASS"}
    spread = MiningConfig(top_k=2, diversity_margin=0.5)
    assert select(_targets(["open"]), _line(0), pool, vectors, config=spread, encoder="x").kept["object_name"].tolist() == [
        "R0",
        "R7",
    ]


def test_no_targets_or_no_eligible_rows_keeps_nothing_and_is_no_error(tmp_path):
    pool = _pool(["a"], ["open"])
    none = select(_targets([]), np.empty((0, 2), np.float32), pool, _line(0), config=MiningConfig(), encoder="x")
    assert none.counts["kept"] == 0
    outputs.write_outputs(none, tmp_path / "none")
    all_used = select(
        _targets(["open"]),
        _line(0),
        pool,
        _line(0),
        config=MiningConfig(search_eligible=True),
        encoder="x",
        exclusions=Exclusions({"a"}),
    )
    assert all_used.counts["kept"] == 0


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_counts_always_balance_and_no_content_is_kept_twice_or_leaks(data):
    size = data.draw(st.integers(1, 40))
    contents = data.draw(st.lists(st.sampled_from("abcdefghijkl"), min_size=size, max_size=size))
    labels = data.draw(st.lists(st.sampled_from(["PASS", "open"]), min_size=size, max_size=size))
    angle = {c: 11.0 * i for i, c in enumerate("abcdefghijkl")}
    pool = _pool(contents, labels, featureless={i for i, c in enumerate(contents) if c == "l"})
    excluded = Exclusions(
        set(data.draw(st.sets(st.sampled_from("abc")))), leaks={"kpi": data.draw(st.sets(st.sampled_from("cdel")))}
    )
    config = MiningConfig(
        top_k=data.draw(st.integers(1, 9)),
        min_similarity=data.draw(st.sampled_from([None, 0.5, 0.95])),
        filter_by_label=data.draw(st.booleans()),
        search_eligible=data.draw(st.booleans()),
        hard_pass=data.draw(st.booleans()),
        quota_per_label=data.draw(st.sampled_from([None, 1])),
        diversity_margin=data.draw(st.sampled_from([None, 0.2])),
    )
    wanted = data.draw(st.lists(st.sampled_from(["PASS", "open"]), max_size=5))
    mined = select(
        _targets(wanted),
        _line(*[7.0 * i for i in range(len(wanted))]).reshape(-1, 2),
        pool,
        _line(*[angle[c] for c in contents]),
        config=config,
        encoder="x",
        exclusions=excluded,
    )
    assert mined.counts["candidates"] == mined.counts["kept"] + sum(mined.rejected.values())
    kept = mined.kept[~mined.kept["featureless"]]["content_id"]
    assert kept.is_unique
    assert not set(kept) & (excluded.training_ids | excluded.leaks["kpi"])
    assert set(mined.pairs["decision"]) <= {"kept", *selection.REASONS}
    validate(config.as_dict(), "mining_config")


def test_a_lost_row_is_a_silent_drop(monkeypatch):
    monkeypatch.setattr(selection, "REASONS", tuple(r for r in selection.REASONS if r != "already_in_training"))
    pool = _pool(["a"], ["open"])
    with pytest.raises(HardStop, match="silent drop"):
        select(_targets(["open"]), _line(0), pool, _line(0), config=MiningConfig(), encoder="x", exclusions=Exclusions({"a"}))


def test_row_order_of_targets_and_store_or_matrix_do_not_change_the_outcome(tmp_path):
    rng = np.random.default_rng(0)
    contents = [f"{i // 2:064x}" for i in range(60)]
    pool = _pool(contents, ["open" if i // 2 % 3 else "PASS" for i in range(60)])
    unique = rng.standard_normal((30, 8)).astype(np.float32)
    vectors = normalize_rows(unique[[i // 2 for i in range(60)]])
    store = EmbeddingStore(tmp_path, EncoderIdentity("x", "0", ""))
    store.add(contents, vectors)
    queries = rng.standard_normal((7, 8)).astype(np.float32)
    targets = _targets(["open", "PASS"] * 3 + ["open"])
    one = select(targets, queries, pool, store, config=MiningConfig(), encoder="x")
    two = select(targets, queries, pool, vectors, config=MiningConfig(block_bytes=1 << 12), encoder="x")
    order = rng.permutation(7)
    three = select(targets.iloc[order], queries[order], pool, store, config=MiningConfig(), encoder="x")
    assert one.pairs.equals(two.pairs)
    assert one.kept["sample_id"].tolist() == three.kept["sample_id"].tolist()
    assert one.rejected == three.rejected


def test_the_files_are_what_the_next_stage_reads(tmp_path):
    pool = _pool(list("abcde"), ["PASS", "open", "open", "PASS", "open"])
    config = MiningConfig(top_k=2, min_similarity=0.99)
    mined = select(_targets(["open", "PASS"]), _line(0, 90), pool, _line(0, 1, 88, 89, 45), config=config, encoder="pair_feature")
    outputs.write_outputs(mined, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "knn_summary.csv",
        "mined_pairs.parquet",
        "mining_pool.csv",
        "mining_summary.txt",
        "target_embeddings.parquet",
    ]
    kept = read_changenet_csv(tmp_path / "mining_pool.csv", what="mined rows")
    assert kept["object_name"].tolist() == ["R0", "R1", "R2", "R3"]
    assert {"provenance", "content_id", "similarity", "target_ids", "encoder"} <= set(kept.columns)
    summary = pd.read_csv(tmp_path / "knn_summary.csv").iloc[0]
    assert (summary.candidate_count, summary.kept_count, summary.rejected_count, summary.similarity_threshold) == (4, 4, 0, 0.99)
    pairs = pq.read_table(tmp_path / "mined_pairs.parquet").to_pandas()
    assert {"target_filepath", "source_filepath", "rank", "similarity", "label", "provenance", "decision"} <= set(pairs.columns)
    back = pq.read_table(tmp_path / "target_embeddings.parquet").to_pandas()
    assert np.allclose(np.stack(back["embedding"]), _line(0, 90))
    text = (tmp_path / "mining_summary.txt").read_text()
    assert "Kept: 4" in text
    assert all(len(line) < 400 for line in text.splitlines())


def test_settings_out_of_range_are_usage_errors():
    for options in ({"top_k": 0}, {"metric": "dot"}, {"min_similarity": 2.0}, {"quota_per_label": 0}, {"diversity_margin": -1.0}):
        with pytest.raises(UsageError):
            MiningConfig(**options)


def _run(*args):
    command = [sys.executable, str(SCRIPTS / "knn_mine.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_mines_two_tables_and_explains_what_is_wrong(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 6))
    table = pd.DataFrame(
        {"filepath": [f"p{i}.png" for i in range(50)], "label": ["PASS", "Open"] * 25, "embedding": list(vectors)}
    )
    write_parquet(table, tmp_path / "pool.parquet")
    write_parquet(table.iloc[:4].assign(filepath=[f"t{i}.png" for i in range(4)]), tmp_path / "targets.parquet")
    arguments = ["--targets", tmp_path / "targets.parquet", "--pool", tmp_path / "pool.parquet", "--output-dir", tmp_path / "out"]
    done = _run(*arguments, "--topn", "3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["candidate_count"] == result["kept_count"] + result["rejected_count"]
    assert result["similarity_threshold"] == "null"
    pairs = pq.read_table(tmp_path / "out" / "mined_pairs.parquet").to_pandas()
    assert pairs[pairs["rank"] == 1]["source_filepath"].tolist() == [f"p{i}.png" for i in range(4)]
    assert _run(*arguments, "--metric", "dot").returncode == 2
    assert _run(*arguments[:3], tmp_path / "no.parquet", *arguments[4:]).returncode == 4
    write_parquet(table.drop(columns=["embedding"]), tmp_path / "pool.parquet")
    broken = _run(*arguments)
    assert broken.returncode == 3
    assert "embedding" in broken.stderr


@pytest.mark.parametrize("eligible", [False, True])
def test_a_zero_embedding_is_never_similar(eligible):
    pool = _pool(["flat", "near", "far"], ["PASS", "open", "open"], featureless={0})
    vectors = np.concatenate([np.zeros((1, 2), np.float32), _line(10, 120)])
    config = MiningConfig(top_k=2, search_eligible=eligible)
    targets = np.concatenate([_line(0), np.zeros((1, 2), np.float32)])
    mined = select(_targets(["open", "PASS"]), targets, pool, vectors, config=config, encoder="x")
    assert _decisions(mined)["real-00000000"] == "zero_embedding"
    assert "real-00000000" not in set(mined.kept["sample_id"])
    assert set(mined.pairs["target_filepath"]) == {"kpi/t0.png"}  # a flat target asks for nothing
    assert any("embedding of zero" in line for line in mined.warnings)
    near = select(_targets(["open"]), targets[:1], pool, vectors, config=MiningConfig(top_k=3, metric="euclidean"), encoder="x")
    assert "real-00000000" in set(near.kept["sample_id"])  # a distance to zero is a distance
