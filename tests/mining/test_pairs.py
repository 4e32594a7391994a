"""Pre-generated pairs: what is refused, what is copied, what survives a kill."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
from pathlib import Path

import jsonschema
import pytest
from PIL import Image, ImageFile
from tests.conftest import wait_until

from deft_aoi.contract.changenet_csv import ImageLayout, read_changenet_csv
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.schema import read_checked, schema_path, write_checked
from deft_aoi.mining import pregen_scan, pregen_staging

LIGHTS = ("SolderLight",)


def _scan(make, lights=LIGHTS, ext=".png"):
    return pregen_scan.scan(make.workspace, lights, ext)


def _stage(make, found=None, **options):
    final = make.workspace.results / "run_1" / "synth_pool"
    out = make.workspace.results / "run_1" / "synth_pool.tmp-1"
    out.mkdir(parents=True, exist_ok=True)
    return pregen_staging.stage(found or _scan(make), out, workspace=make.workspace, final_dir=final, **options), out, final


def test_pairs_are_made_by_stem_whatever_the_extension_and_junk_is_listed(make):
    make.pregen("R1@1+bridge_00000", 1, ng_ext=".png", ok_ext=".jpg")
    make.pregen("R2", 2, ng_ext=".PNG")
    (make.workspace.pregen_ng / ".DS_Store").write_bytes(b"junk")
    (make.workspace.pregen_ng / "notes.txt").write_text("x")
    found = _scan(make)
    assert [(p.stem, p.defect_type) for p in found.pairs] == [("R1@1+bridge_00000", "bridge"), ("R2", "ng")]
    assert found.counts_by_type == {"bridge": 1, "ng": 1}
    assert len(found.ignored) == 2
    assert not any("DS_Store" in p.ng for p in found.pairs)


def test_no_pregenerated_folder_is_no_pairs_but_an_empty_one_stops(make):
    assert not _scan(make).present
    make.workspace.pregen_ng.mkdir(parents=True)
    make.workspace.pregen_ok.mkdir()
    with pytest.raises(HardStop, match="1 problem"):
        _scan(make)


def test_every_problem_is_in_one_hard_stop(make, tmp_path):
    for stem in ("good", "orphan_ng", "broken", "collide"):
        make.pregen(stem, 3)
    ng, ok = make.workspace.pregen_ng, make.workspace.pregen_ok
    (ok / "orphan_ng.png").unlink()
    shutil.copy(ok / "good.png", ok / "orphan_ok.png")
    (ng / "broken.png").write_bytes((ng / "broken.png").read_bytes()[:200])
    shutil.copy(ng / "collide.png", ng / "collide.jpg")
    outside = tmp_path / "outside.png"
    shutil.copy(ng / "good.png", outside)
    (ng / "linked.png").symlink_to(outside)
    (ok / "a,b.png").write_bytes((ok / "good.png").read_bytes())
    with pytest.raises(HardStop) as stop:
        _scan(make)
    for word in ("orphan_ng", "orphan_ok", "broken", "collide", "linked", "a,b"):
        assert word in stop.value.found
    assert "good.png" not in stop.value.found


def test_a_bomb_is_refused_before_it_is_decoded(make, monkeypatch):
    make.pregen("bomb", 1)
    Image.new("1", (13000, 13000)).save(make.workspace.pregen_ng / "bomb.png")
    decoded = []
    load = ImageFile.ImageFile.load

    def counted(image):
        decoded.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    with pytest.raises(HardStop) as stop:
        _scan(make)
    assert "too large" in stop.value.found
    assert (13000, 13000) not in decoded


def test_defect_spec_gives_types_by_stems_prefix_and_pattern(make):
    for stem in ("a1", "a2", "short_7", "x_missing_y", "plain+open_3"):
        make.pregen(stem, 1)
    make.defect_spec(
        {"defect_type": "Bridge", "stems": ["a1", "a2"], "count": 2},
        {"defect_type": "short", "stem_prefix": "short_"},
        {"defect_type": "缺件", "stem_pattern": "*_missing_*", "count": 1},
    )
    assert {p.stem: p.defect_type for p in _scan(make).pairs} == {
        "a1": "bridge",
        "a2": "bridge",
        "short_7": "short",
        "x_missing_y": "缺件",
        "plain+open_3": "open",
    }


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"defect_type": "a", "stems": ["p1"], "count": 2}], "count 2"),
        ([{"defect_type": "a", "stems": ["p1", "nothere"]}], "nothere"),
        ([{"defect_type": "a", "stem_prefix": "zzz"}], "no pair matches"),
        ([{"defect_type": "a", "stem_prefix": "p"}, {"defect_type": "b", "stems": ["p1"]}], "both claim"),
    ],
)
def test_allocation_mismatch_stops(make, lines, words):
    make.pregen("p1", 1)
    make.defect_spec(*lines)
    with pytest.raises(HardStop, match="allocation mismatch") as stop:
        _scan(make)
    assert words in stop.value.found


@pytest.mark.parametrize(
    "line",
    [
        '{"defect_type": "a"}',
        '{"defect_type": "PASS", "stem_prefix": "p"}',
        "not json",
        '{"defect_type": "a", "stems": ["p1"], "other": 1}',
    ],
)
def test_a_bad_defect_spec_line_is_named(make, line):
    make.pregen("p1", 1)
    make.workspace.defect_spec.write_text('{"defect_type": "ok", "stem_prefix": "p"}\n' + line + "\n")
    with pytest.raises(HardStop, match="line 2"):
        _scan(make)


def test_staged_rows_are_changenet_rows_for_every_light(make):
    make.pregen("R1+bridge_00000", 1)
    make.pregen("R2+open_00001", 2, ok_ext=".bmp")
    staged, out, final = _stage(make, pregen_scan.scan(make.workspace, ("SolderLight", "UniformLight"), ".png"))
    assert staged.copied == 8
    out.rename(final)
    rows = read_changenet_csv(final / "sdg_rows.csv", what="rows")
    assert rows["label"].tolist() == ["bridge", "open"]
    assert rows["provenance"].unique().tolist() == ["sdg"]
    ImageLayout(make.workspace.root, ("SolderLight", "UniformLight"), ".png").require(rows, "staged")
    copy = final / "images/synth_ng/R1+bridge_00000_UniformLight.png"
    assert sha256_file(copy) == sha256_file(make.workspace.pregen_ng / "R1+bridge_00000.png")
    recoded = final / "images/synth_ok/R2+open_00001_SolderLight.png"
    with Image.open(recoded) as image, Image.open(make.workspace.pregen_ok / "R2+open_00001.bmp") as source:
        assert image.format == "PNG"
        assert image.convert("RGB").tobytes() == source.convert("RGB").tobytes()
    for path in final.rglob("*"):
        if path.suffix in (".csv", ".json"):
            assert ".tmp-" not in path.read_text()


def test_a_staged_copy_does_not_change_with_its_source(make):
    make.pregen("R1", 1)
    staged, out, _ = _stage(make)
    source = make.workspace.pregen_ng / "R1.png"
    before = sha256_file(out / "images/synth_ng/R1_SolderLight.png")
    with source.open("r+b") as handle:
        handle.write(b"\0\0\0\0")
    assert sha256_file(out / "images/synth_ng/R1_SolderLight.png") == before
    assert staged.manifest["files"][0]["sha256"]


def test_the_manifest_fits_its_schema_as_a_whole(make):
    for i in range(12):
        make.pregen(f"R{i}", i)
    staged, out, _ = _stage(make)
    schema = json.loads(schema_path("pregen_manifest").read_text())
    jsonschema.validate(json.loads((out / "manifest.json").read_text()), schema, cls=jsonschema.Draft202012Validator)
    assert len(staged.manifest["files"]) == 24
    for entry in staged.manifest["files"]:
        assert sha256_file(out / entry["path"]) == entry["sha256"]


def test_a_repeated_stage_copies_nothing_and_force_copies_all(make):
    make.pregen("R1", 1)
    first, _, _ = _stage(make)
    again, _, _ = _stage(make)
    forced, _, _ = _stage(make, force=True)
    assert (first.copied, again.copied, forced.copied) == (2, 0, 2)
    assert again.rows.astype(str).equals(first.rows.reindex(columns=again.rows.columns, fill_value="").astype(str))


def test_other_parameters_are_not_mixed_into_what_is_staged(make):
    make.pregen("R1", 1)
    _stage(make)
    with pytest.raises(HardStop, match="other sources or parameters"):
        _stage(make, pregen_scan.scan(make.workspace, ("Other",), ".png"))


def _stage_and_halt(make, started):

    copy = pregen_staging._copy_one

    def halting(*args):
        with started.get_lock():
            started.value += 1
            number = started.value
        if number > 25:
            threading.Event().wait()  # until the kill
        return copy(*args)

    pregen_staging._copy_one = halting
    _stage(make)


def test_a_killed_stage_continues_where_it_was(make):
    for i in range(40):
        make.pregen(f"R{i:02d}", i)
    context = multiprocessing.get_context("fork")
    started = context.Value("i", 0)
    process = context.Process(target=_stage_and_halt, args=(make, started))
    process.start()
    wait_until("the copies before the halt", lambda: started.value > 25)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    out = make.workspace.results / "run_1" / "synth_pool.tmp-1"
    assert not (out / "manifest.json").exists()
    # The journal is buffered, so a kill may lose its tail; what it lacks is copied again.
    (out / ".staged.jsonl").open("a").write('{"path": "torn')
    staged, _, _ = _stage(make)
    assert 0 < staged.copied <= 80
    clean, _, _ = _stage(make, force=True)
    assert [(e["path"], e["sha256"]) for e in staged.manifest["files"]] == [
        (e["path"], e["sha256"]) for e in clean.manifest["files"]
    ]
    assert not (out / ".staged.jsonl").exists()


def test_a_finished_journal_saves_copies(make):
    for i in range(10):
        make.pregen(f"R{i}", i)
    first, out, _ = _stage(make)
    entries = first.manifest["files"]
    key = pairs_key(first)
    (out / "manifest.json").unlink()
    (out / ".staged.jsonl").write_text(json.dumps({"key": key}) + "\n" + "".join(json.dumps(e) + "\n" for e in entries[:15]))
    second, _, _ = _stage(make)
    assert second.copied == len(entries) - 15


def test_a_journal_that_outlived_its_manifest_is_not_published(make):
    make.pregen("R0", 0)
    _, out, _ = _stage(make)
    (out / ".staged.jsonl").write_text("{}\n")
    again, _, _ = _stage(make)
    assert again.copied == 0
    assert not (out / ".staged.jsonl").exists()


def pairs_key(staged):
    from deft_aoi.contract.files import digest_json

    return digest_json(staged.manifest["parameters"])


@pytest.mark.parametrize("where", ["source", "staged", "new", "gone", "same size and time"])
def test_mutation_after_staging_stops(make, where):
    make.pregen("R1", 1)
    make.pregen("R2", 2)
    _, out, _ = _stage(make)
    summary = pregen_staging.check_unchanged(make.workspace, out)
    assert summary["files_digested"] == 0
    assert summary["files_checked"] == 8
    target = make.workspace.pregen_ng / "R1.png"
    if where == "source":
        shutil.copy(make.workspace.pregen_ok / "R1.png", target)
    elif where == "staged":
        shutil.copy(target, out / "images/synth_ng/R2_SolderLight.png")
    elif where == "new":
        make.pregen("R3", 3)
    elif where == "gone":
        target.unlink()
    else:
        info = target.stat()
        data = bytearray(target.read_bytes())
        data[len(data) // 2] ^= 1
        target.write_bytes(data)
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
    with pytest.raises(HardStop, match="changed during the run"):
        pregen_staging.check_unchanged(make.workspace, out)


def test_touched_but_equal_files_are_digested_and_accepted(make, tmp_path: Path):
    make.pregen("R1", 1)
    _, out, _ = _stage(make)
    os.utime(make.workspace.pregen_ng / "R1.png")
    summary = pregen_staging.check_unchanged(make.workspace, out)
    assert summary["files_digested"] == 1
    write_checked(tmp_path / "ingest_summary.json", summary, "ingest_summary")
    assert read_checked(tmp_path / "ingest_summary.json", "ingest_summary") == summary


def test_no_pairs_at_all_stage_as_an_empty_table(make):
    staged, out, _ = _stage(make)
    assert staged.copied == 0
    assert len(pregen_staging.load_staged(out).rows) == 0
