"""The pool: where rows point, what joins, and that it only grows."""

from __future__ import annotations

import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deft_aoi.analysis.identity import ContentIndex
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import sha256_file
from deft_aoi.mining import pool, pregen_scan, pregen_staging

from .conftest import LIGHT, write_csv, write_image

LIGHTS = (LIGHT,)


def _build(make, tmp_path, lights=LIGHTS, ext=".png", **options):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    index = ContentIndex(tmp_path / "cache")
    shared = {"index": index, "out_dir": out, "synth_now": options.pop("synth_now", None)}
    built = pool.build(make.workspace, lights, ext, sdg_rows=options.pop("sdg_rows", None), **shared)
    return pool.identify(built, make.workspace, **shared, **options), out


def _three_rows(make):
    make.pool_row("R1", "PASS", 1)
    make.pool_row("R2", "Missing ", 2)
    make.pool_row("R3", "open", 3)
    make.write_pool()


def test_rows_become_workspace_relative_with_normal_labels(make, tmp_path):
    _three_rows(make)
    built, out = _build(make, tmp_path)
    assert built.frame["input_path"].unique().tolist() == ["augmentation/mining_pool/images/a"]
    assert built.frame["label"].tolist() == ["PASS", "missing", "open"]
    assert built.frame["defect_type"].tolist() == ["", "missing", "open"]
    ImageLayout(make.workspace.root, LIGHTS, ".png").require(built.frame, "pool")
    table = pq.read_table(out / "source_pool.parquet").to_pandas()
    assert " ".join(table) == "sample_id light filepath golden_filepath label provenance sha256 golden_sha256"
    for path, digest in (("filepath", "sha256"), ("golden_filepath", "golden_sha256")):
        assert [sha256_file(make.workspace.root / p) for p in table[path]] == table[digest].tolist()
    again = pool.load(out / "source_pool.csv", LIGHTS, ".png")
    assert again.frame["content_id"].tolist() == built.frame["content_id"].tolist()
    assert again.counts == built.counts == {"real": 3, "sdg": 0, "featureless": 0}
    assert again.rows_digest == built.rows_digest


@pytest.mark.parametrize(
    ("prefix", "folder"),
    [
        ("images/", "augmentation/mining_pool/images"),
        ("", "augmentation/mining_pool/images"),
        ("", "kpi/images"),
        ("some/where/", "some/where"),
    ],
)
@pytest.mark.parametrize("file_style", [False, True])
def test_every_accepted_path_rule_resolves(make, prefix, folder, file_style):
    rows = []
    for i in range(3):
        write_image(make.workspace.root / folder / "b1" / f"R{i}@1_{LIGHT}.png", i)
        write_image(make.workspace.pool_dir / "golden" / f"R{i}@1_{LIGHT}.png", 9)
        cell = f"{prefix}b1" + (f"/R{i}@1_{LIGHT}.png" if file_style else "")
        rows.append({"input_path": cell, "golden_path": "golden", "label": "PASS", "object_name": f"R{i}@1"})
    write_csv(make.workspace.pool_csv, rows)
    frame, rules = pool.read_real_rows(make.workspace, LIGHTS, ".png")
    assert frame["input_path"].unique().tolist() == [f"{folder}/b1"]
    assert frame["golden_path"].unique().tolist() == ["augmentation/mining_pool/golden"]
    assert ("file names" in rules["input_path"]) == file_style


def test_a_row_that_resolves_nowhere_is_named_with_the_places(make):
    _three_rows(make)
    (make.workspace.pool_dir / "images" / "a" / f"R2_{LIGHT}.png").unlink()
    with pytest.raises(HardStop, match="line 3, column input_path") as stop:
        pool.read_real_rows(make.workspace, LIGHTS, ".png")
    assert "kpi/images" in stop.value.found
    assert "mining_pool" in stop.value.found


def test_rows_under_different_rules_do_not_pass(make):
    _three_rows(make)
    write_image(make.workspace.kpi_images / "k" / f"R9_{LIGHT}.png", 9)
    make.rows.append({**make.rows[0], "input_path": "k", "object_name": "R9"})
    make.write_pool()
    with pytest.raises(HardStop, match="line 5"):
        pool.read_real_rows(make.workspace, LIGHTS, ".png")


def test_two_rules_with_different_files_are_ambiguous(make):
    for base in (make.workspace.pool_dir / "images", make.workspace.kpi_images):
        write_image(base / "b" / f"R1_{LIGHT}.png", 1)
    write_csv(make.workspace.pool_csv, [{"input_path": "b", "golden_path": "b", "label": "PASS", "object_name": "R1"}])
    with pytest.raises(HardStop, match="two rules"):
        pool.read_real_rows(make.workspace, LIGHTS, ".png")


def test_a_linked_image_is_not_seen(make, tmp_path):
    _three_rows(make)
    path = make.workspace.pool_dir / "images" / "a" / f"R3_{LIGHT}.png"
    shutil.move(path, tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(HardStop, match="line 4"):
        pool.read_real_rows(make.workspace, LIGHTS, ".png")


def test_a_missing_light_is_found(make):
    make.pool_row("R1", "PASS", 1, lights=("A", "B"))
    make.write_pool()
    pool.read_real_rows(make.workspace, ("A", "B"), ".png")
    with pytest.raises(HardStop, match="line 2"):
        pool.read_real_rows(make.workspace, ("A", "C"), ".png")


@pytest.mark.parametrize("content", [None, "input_path,golden_path,label,object_name\n"])
def test_a_missing_or_empty_pool_stops(make, content):
    make.workspace.pool_dir.mkdir(parents=True)
    if content:
        make.workspace.pool_csv.write_text(content)
    with pytest.raises(HardStop):
        pool.read_real_rows(make.workspace, LIGHTS, ".png")


def test_real_and_synthetic_rows_share_one_table_before_and_after_publication(make, tmp_path):
    _three_rows(make)
    make.pregen("S1+bridge_00000", 50)
    final = make.workspace.results / "run_1" / "synth_pool"
    now = make.workspace.results / "run_1" / "synth_pool.tmp-1"
    now.mkdir(parents=True)
    staged = pregen_staging.stage(
        pregen_scan.scan(make.workspace, LIGHTS, ".png"), now, workspace=make.workspace, final_dir=final
    )
    before, out = _build(make, tmp_path, sdg_rows=staged.rows, synth_now=now)
    assert before.counts == {"real": 3, "sdg": 1, "featureless": 0}
    assert ".tmp-" not in (out / "source_pool.csv").read_text()
    now.rename(final)
    after, _ = _build(make, tmp_path, sdg_rows=pregen_staging.load_staged(final).rows, previous=out / "source_pool.csv")
    assert after.frame["content_id"].tolist() == before.frame["content_id"].tolist()
    ImageLayout(make.workspace.root, LIGHTS, ".png").require(after.frame, "pool")
    sdg = after.frame.iloc[3]
    assert (sdg["provenance"], sdg["label"], sdg["sample_id"], sdg["pool_row"]) == ("sdg", "bridge", "sdg-S1+bridge_00000", "")


def test_the_table_decodes_nothing_and_a_second_identification_neither(make, tmp_path):
    _three_rows(make)
    out = tmp_path / "out"
    out.mkdir()
    for decoded in (3, 0):  # the golden that all three share is the picture of the first, byte by byte
        index = ContentIndex(tmp_path / "cache")
        built = pool.build(make.workspace, LIGHTS, ".png", index=index, out_dir=out)
        assert index.decoded == 0
        assert "content_id" not in built.frame.columns
        pool.identify(built, make.workspace, index=index, out_dir=out)
        assert index.decoded == decoded


def test_every_image_that_is_not_decoded_is_named(make, tmp_path):
    _three_rows(make)
    for name in ("R1", "R3"):
        (make.workspace.pool_dir / "images" / "a" / f"{name}_{LIGHT}.png").write_bytes(b"no image")
    with pytest.raises(HardStop, match="mining pool: 2 images") as stop:
        _build(make, tmp_path)
    assert "line 2, column input_path" in stop.value.found
    assert "line 4, column input_path" in stop.value.found
    assert not (tmp_path / "out" / "source_pool.csv").exists()


def test_the_table_has_every_light_of_a_row_together(make, tmp_path):
    for name in ("R1", "R2"):
        make.pool_row(name, "PASS", int(name[1]), lights=("Z", "A"))
    make.write_pool()
    _, out = _build(make, tmp_path, lights=("Z", "A"))
    table = pq.read_table(out / "source_pool.parquet").to_pandas()
    assert [p.rpartition("/")[2] for p in table["filepath"]] == ["R1_Z.png", "R1_A.png", "R2_Z.png", "R2_A.png"]
    assert [sha256_file(make.workspace.root / p) for p in table["filepath"]] == table["sha256"].tolist()
    assert table["sha256"].nunique() == 4
    assert table["golden_sha256"].nunique() == 1


def test_a_synthetic_pair_that_is_an_evaluation_pair_stops(make, tmp_path):
    _three_rows(make)
    make.pregen("S1", 50)
    now = make.workspace.results / "r" / "synth_pool"
    now.mkdir(parents=True)
    staged = pregen_staging.stage(pregen_scan.scan(make.workspace, LIGHTS, ".png"), now, workspace=make.workspace, final_dir=now)
    built, _ = _build(make, tmp_path, sdg_rows=staged.rows)
    part = ContentIndex(tmp_path / "cache").part("KPI set", built.frame, ImageLayout(make.workspace.root, LIGHTS, ".png"))
    last = part.take((part.frame["provenance"] == "sdg").to_numpy())
    with pytest.raises(HardStop, match="evaluation pairs"):
        _build(make, tmp_path, sdg_rows=staged.rows, held_out={"kpi": last})
    first = part.take((part.frame["sample_id"] == "real-00000000").to_numpy())
    built, _ = _build(make, tmp_path, sdg_rows=staged.rows, held_out={"kpi": first})
    assert built.frame["leak_kind"].tolist() == ["exact", "", "", ""]


def test_growth_is_welcome_and_shrinking_or_changing_is_not(make, tmp_path):
    _three_rows(make)
    first, out = _build(make, tmp_path)
    old = tmp_path / "old.csv"
    shutil.copy(out / "source_pool.csv", old)
    make.pool_row("R4", "open", 4)
    make.write_pool()
    grown, _ = _build(make, tmp_path, previous=old)
    assert pool.check_append_only(first.frame, grown.frame) == 1
    kept = list(make.rows)
    make.rows = kept[:2]
    make.write_pool()
    with pytest.raises(HardStop, match="shrank"):
        _build(make, tmp_path, previous=old)
    make.rows = [kept[1], kept[0], *kept[2:]]
    make.write_pool()
    with pytest.raises(HardStop, match="line 2, column object_name"):
        _build(make, tmp_path, previous=old)
    make.rows = [{**kept[0], "label": "open"}, *kept[1:]]
    make.write_pool()
    with pytest.raises(HardStop, match="line 2, column label"):
        _build(make, tmp_path, previous=old)
    make.rows = kept
    make.write_pool()
    Image.new("RGB", (24, 24), (1, 2, 3)).save(make.workspace.pool_dir / "images" / "a" / f"R2_{LIGHT}.png")
    with pytest.raises(HardStop, match="line 3, the image itself"):
        _build(make, tmp_path, previous=old)


def test_lights_come_in_input_map_order(make):
    frame = pd.DataFrame(
        {
            "object_name": ["a", "b"],
            "input_path": "i",
            "golden_path": "g",
            "sample_id": ["1", "2"],
            "label": "PASS",
            "provenance": "real",
            "content_id": ["x", "y"],
        }
    )
    table = pool.per_light(frame, ("Z", "A"), ".png")
    assert table["filepath"].tolist() == ["i/a_Z.png", "i/a_A.png", "i/b_Z.png", "i/b_A.png"]
    assert pool.per_light(frame, ("",), ".png")["golden_filepath"].tolist() == ["g/a.png", "g/b.png"]


def test_deeppcb_pool_is_read_as_it_is(deeppcb_tiny, tmp_path):
    from deft_aoi.contract.paths import Workspace

    workspace = Workspace.at(deeppcb_tiny)
    index = ContentIndex(tmp_path / "c")
    built = pool.build(workspace, LIGHTS, ".jpg", index=index, out_dir=tmp_path)
    built = pool.identify(built, workspace, index=index, out_dir=tmp_path)
    assert built.counts["real"] == 108
    assert built.path_rules["input_path"] == "relative to augmentation/mining_pool"
