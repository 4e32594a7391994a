"""Registered goldens as files: pixel-exact under every suffix, made once, made again when damaged; what earns registration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deft_aoi.analysis import registered_goldens
from deft_aoi.analysis.identity import ContentIndex
from deft_aoi.analysis.registered_goldens import Measured, Preprocessing, ShiftCache, pairs_of, register_rows, shift_table
from deft_aoi.analysis.registration import Shift, move_golden
from deft_aoi.analysis.registration_trial import distribution, trial
from deft_aoi.contract.changenet_csv import ImageLayout

HOW = Preprocessing(64, 64)


def blocks(rng: np.random.Generator) -> np.ndarray:
    return np.kron(rng.integers(0, 256, (14, 14, 3)), np.ones((6, 6, 1))).astype(np.uint8)


def boards(
    folder: Path, shifts: list[tuple[int, int]], ext: str, lights: tuple[str, ...] = ("A",)
) -> tuple[pd.DataFrame, ImageLayout]:
    """Rows whose golden lies off by the given pixels, alike in every light."""
    rng = np.random.default_rng(5)
    for row, (dy, dx) in enumerate(shifts):
        for light in lights:
            scene = blocks(rng)
            for side, (y, x) in (("test", (10, 10)), ("golden", (10 + dy, 10 + dx))):
                (folder / side).mkdir(exist_ok=True)
                options = {"lossless": True} if ext == ".webp" else {}
                crop = Image.fromarray(scene[y : y + 64, x : x + 64])
                crop.save(folder / side / f"p{row}_{light}{ext}", **({"quality": 100} if ext == ".jpg" else options))
    frame = pd.DataFrame(
        {"input_path": "test", "golden_path": "golden", "label": "PASS", "object_name": [f"p{i}" for i in range(len(shifts))]}
    )
    return frame, ImageLayout(folder, lights, ext)


def registered(folder: Path, frame: pd.DataFrame, layout: ImageLayout) -> tuple[pd.DataFrame, list[Measured]]:
    ids = ContentIndex(folder / "digests").digest_pairs(frame, layout)
    return register_rows(frame, layout, ids, HOW, root=folder / "registered", cache=folder / "cache")


@pytest.mark.parametrize("ext", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_a_golden_that_lies_off_is_a_file_of_the_set_s_suffix_with_exactly_the_moved_pixels(tmp_path: Path, ext: str) -> None:
    frame, layout = boards(tmp_path, [(3, -2), (0, 0)], ext)
    out, measured = registered(tmp_path, frame, layout)
    assert [(m.shift.dy, m.shift.dx) for m in measured] == [(3, -2), (0, 0)]
    assert out["golden_path"].iat[1] == str(tmp_path / "golden"), "a golden that lies right stays where it is"
    pictures = [np.asarray(Image.open(tmp_path / side / f"p0_A{ext}").convert("RGB")) for side in ("test", "golden")]
    written = np.asarray(Image.open(Path(out["golden_path"].iat[0]) / f"p0_A{ext}").convert("RGB"))
    assert (written == move_golden(*pictures, 3, -2)).all()
    assert frame["golden_path"].eq("golden").all(), "the user's rows are left alone"


def test_all_lights_of_a_row_share_one_shift(tmp_path: Path) -> None:
    frame, layout = boards(tmp_path, [(2, 1)], ".png", ("Solder", "White"))
    out, (measured,) = registered(tmp_path, frame, layout)
    assert (measured.shift.dy, measured.shift.dx) == (2, 1)
    assert sorted(p.name for p in Path(out["golden_path"].iat[0]).glob("*.png")) == ["p0_Solder.png", "p0_White.png"]


def test_what_is_whole_is_kept_and_what_was_damaged_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, layout = boards(tmp_path, [(3, 3), (-4, 0)], ".png")
    out, measured = registered(tmp_path, frame, layout)
    files = [Path(folder) / f"p{i}_A.png" for i, folder in enumerate(out["golden_path"])]
    whole = [f.read_bytes() for f in files]
    files[0].write_bytes(b"cut")
    monkeypatch.setattr(registered_goldens, "_measure", lambda *_: pytest.fail("a known content was measured again"))
    before = files[1].stat().st_ino
    again, same = registered(tmp_path, frame, layout)
    assert again.equals(out)
    assert same == measured
    assert [f.read_bytes() for f in files] == whole
    assert files[1].stat().st_ino == before


def test_a_damaged_cache_of_shifts_is_measured_again(tmp_path: Path) -> None:
    frame, layout = boards(tmp_path, [(1, 2)], ".png")
    ids = ContentIndex(tmp_path / "digests").digest_pairs(frame, layout)
    pairs = pairs_of(frame, layout, ids)
    first = ShiftCache(tmp_path / "cache", HOW).measure(pairs)
    (file,) = (tmp_path / "cache").glob("shifts-*.csv")
    file.write_bytes(file.read_bytes().replace(b",1,2,", b",5,5,"))
    assert ShiftCache(tmp_path / "cache", HOW).measure(pairs) == first


def test_shift_estimated_on_the_network_s_picture_moves_the_original_s_pixels(tmp_path: Path) -> None:
    frame, layout = boards(tmp_path, [(4, -4)], ".png")
    ids = ContentIndex(tmp_path / "digests").digest_pairs(frame, layout)
    half = Preprocessing(32, 32)
    out, (measured,) = register_rows(frame, layout, ids, half, root=tmp_path / "r", cache=tmp_path / "c")
    assert (measured.shift.dy, measured.shift.dx) == (2, -2)
    test, golden = (np.asarray(Image.open(tmp_path / side / "p0_A.png")) for side in ("test", "golden"))
    assert (np.asarray(Image.open(Path(out["golden_path"].iat[0]) / "p0_A.png")) == move_golden(test, golden, 4, -4)).all()


def test_table_of_shifts_names_each_row_with_both_costs(tmp_path: Path) -> None:
    frame, layout = boards(tmp_path, [(6, 0), (0, 0)], ".png")
    ids = ContentIndex(tmp_path / "digests").digest_pairs(frame, layout)
    _, measured = registered(tmp_path, frame, layout)
    table = shift_table(frame, ids, measured)
    assert list(table["dy"]) == ["6", "0"]
    assert list(table["at_limit"]) == ["True", "False"], "six of 64 pixels is as far as it looks"
    assert float(table["cost_after"].iat[0]) < float(table["cost_before"].iat[0])
    assert [m.needs_a_person for m in measured] == [True, False]
    assert distribution(measured, HOW)["at_limit_fraction"] == 0.5


def measured(raw: float, after: float) -> Measured:
    return Measured(Shift(1, 0, 9.0, 2.0, False, 0.02), raw, after)


def rows(good: list[tuple[float, float]], **classes: list[tuple[float, float]]) -> tuple[list[str], list[str], list[Measured]]:
    labels = ["PASS"] * len(good) + [name for name, values in classes.items() for _ in values]
    values = [measured(*v) for v in [*good, *(v for vs in classes.values() for v in vs)]]
    return labels, [str(i) for i in range(len(values))], values


def test_registration_is_earned_by_a_better_rule_without_training() -> None:
    judged = trial(*rows([(20, 2)] * 40, open=[(15, 15)] * 12))
    assert judged.earned
    assert judged.auroc_raw < judged.auroc_registered == 1.0


def test_registration_that_hides_a_class_is_not_earned_and_says_which() -> None:
    """Parts that are shifted, in crops cut tight around them: moving the golden makes them look good."""
    judged = trial(*rows([(20, 2)] * 40, open=[(15, 15)] * 30, shift=[(40, 40)] * 8 + [(40, 1)] * 4))
    assert judged.auroc_registered > judged.auroc_raw
    assert not judged.earned
    assert "shift" in judged.why
    assert "12 found raw, 8 registered" in judged.why


def test_a_class_of_fewer_than_ten_rows_does_not_decide() -> None:
    assert trial(*rows([(20, 2)] * 40, open=[(15, 15)] * 30, shift=[(40, 40)] * 5 + [(40, 1)] * 4)).earned


def test_without_defects_or_good_parts_nothing_is_earned() -> None:
    assert not trial(*rows([(20, 2)] * 40)).earned
    assert not trial(*rows([], open=[(15, 30)] * 12)).earned
