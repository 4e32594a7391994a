"""What was judged on the review page goes into the pool whole, once, with its provenance; or not at all."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from PIL import Image, ImageOps

from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.paths import Workspace
from deft_aoi.loop.plan import pool_prefix
from deft_aoi.mining.pool import read_real_rows
from deft_aoi.report.review_page import Part, write_page
from deft_aoi.workspaces import review_import
from deft_aoi.workspaces.review_import import APPENDED, CONFLICTS, KNOWN, LEAKS

SOURCE = {"run": "run_x", "iteration": "iter1", "checkpoint_sha256": "a" * 64, "threshold": 0.5}
PARTS = 3


class Page:
    """A page of new boards, and the labels that somebody gave on it."""

    def __init__(self, workspace: Path, folder: Path) -> None:
        self.workspace, self.folder = Workspace.at(workspace), folder
        self.spec = specs.load_spec(self.workspace.baseline_spec, what="spec")
        self.layout = specs.layout(self.spec, self.workspace.root)
        folder.mkdir()
        real = read_real_rows(self.workspace, self.layout.lights, self.layout.image_ext)[0]
        self.parts = [self.part(real.iloc[i], f"new/R{i}") for i in range(PARTS)]
        self.labels = ["PASS", "missing", "odd one"]
        self.write()

    def part(self, row: pd.Series, name: str, change=ImageOps.flip, scores: float = 0.7) -> Part:
        """A new part: a pool row's pictures, changed."""
        made = []
        for column in ("input_path", "golden_path"):
            paths = []
            for light in self.layout.lights:
                source = self.workspace.root / row[column] / self.layout.file_name(row["object_name"], light)
                target = self.folder / f"{name.replace('/', '-')}-{column}-{light}.png"
                change(Image.open(source).convert("RGB")).save(target)
                paths.append(str(target))
            made.append(tuple(paths))
        return Part(name, "flagged", *made, (), "PASS", scores)

    def write(self) -> None:
        write_page(self.folder, self.parts, ["PASS", "missing"], kind="boards", title="t", source=SOURCE)
        self.page = json.loads((self.folder / "review.json").read_text())["page"]
        rows = [(self.page, f"p{i + 1:04d}", label, "Ana", "2026-01-05T08:00:00Z") for i, label in enumerate(self.labels)]
        self.save(rows)

    def save(self, rows: list[tuple[str, ...]], columns: str = "page,part,label,by,at") -> None:
        with (self.folder / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([columns.split(","), *rows])

    def take_over(self, **options: object) -> dict:
        said = {"labels": self.folder / "labels.csv", "review": self.folder / "review.json", "workspace": self.workspace.root}
        return review_import.import_review(SimpleNamespace(**{**said, "results_dir": None, "leave_out_leaks": False, **options}))

    @property
    def reviews(self) -> list[dict[str, str]]:
        with (self.workspace.pool_dir / "reviews.csv").open(encoding="utf-8", newline="") as handle:
            return list(csv.DictReader(handle))

    def state(self) -> dict[str, str]:
        files = sorted(path for path in self.workspace.pool_dir.rglob("*") if path.is_file())
        return {str(path): sha256_file(path) for path in files}


@pytest.fixture
def made(workspace: Path, tmp_path: Path) -> Page:
    return Page(workspace, tmp_path / "page")


def test_judged_parts_are_appended_with_who_when_and_which_model(made: Page) -> None:
    before = made.workspace.pool_csv.read_bytes()
    approved = pool_prefix(made.workspace.pool_csv)
    found = made.take_over()
    assert (found[APPENDED], found["judged"]) == (PARTS, PARTS)
    assert (found["disagree_with_model"], found["disagree_with_label"]) == (1, 2)
    assert made.workspace.pool_csv.read_bytes().startswith(before), "the pool only grows"
    assert pool_prefix(made.workspace.pool_csv, approved["rows"]) == approved, "an approved plan goes on"
    real = read_real_rows(made.workspace, made.layout.lights, made.layout.image_ext)[0]
    assert real["label"].tolist()[-PARTS:] == made.labels
    for row, part in zip(real.iloc[-PARTS:].to_dict("records"), made.parts, strict=True):
        for light, shown in zip(made.layout.lights, part.tests, strict=True):
            taken = Image.open(made.workspace.root / row["input_path"] / made.layout.file_name(row["object_name"], light))
            assert taken.convert("RGB").tobytes() == Image.open(shown).tobytes()
    line = made.reviews[1]
    assert (line["by"], line["at"], line["label"], line["came_with"]) == ("Ana", "2026-01-05T08:00:00Z", "missing", "PASS")
    assert (line["run"], line["checkpoint_sha256"], line["score"], line["model_said"]) == ("run_x", "a" * 64, "0.7", "NO_PASS")


def test_same_labels_twice_change_nothing(made: Page) -> None:
    made.take_over()
    after = made.state()
    found = made.take_over()
    assert (found[APPENDED], found[KNOWN]) == (0, PARTS)
    assert made.state() == after


def test_import_that_was_killed_before_its_last_step_is_finished_by_the_next(made: Page) -> None:
    before = made.workspace.pool_csv.read_bytes()
    made.take_over()
    whole = made.state()
    made.workspace.pool_csv.write_bytes(before)
    assert made.take_over()[APPENDED] == PARTS
    assert made.state() == whole


def test_another_label_for_what_the_pool_has_is_recorded_and_not_appended(made: Page) -> None:
    made.take_over()
    made.labels = ["missing", "missing", "odd one"]
    made.write()
    rows = len(read_changenet_csv(made.workspace.pool_csv, what="pool"))
    found = made.take_over()
    assert (found[CONFLICTS], found[KNOWN]) == (1, PARTS - 1)
    assert len(read_changenet_csv(made.workspace.pool_csv, what="pool")) == rows
    assert [r["outcome"] for r in made.reviews if r["part"] == "p0001"] == [APPENDED, CONFLICTS]


@pytest.mark.parametrize("dress", ["exact", "mirrored"])
@pytest.mark.parametrize("split", ["kpi", "validation", "holdout"])
def test_part_of_a_set_that_judges_is_refused(made: Page, split: str, dress: str) -> None:
    from deft_aoi.contract.splits import load_split

    held = load_split(made.workspace, made.spec, split)
    rows = held.frame.assign(**{c: [f"kpi/images/{v}" for v in held.frame[c]] for c in ("input_path", "golden_path")})
    change = (lambda image: image) if dress == "exact" else ImageOps.mirror
    made.parts = [made.part(rows.iloc[i], f"held/{i}", change) for i in range(6)] + made.parts
    made.labels = ["PASS"] * len(made.parts)
    made.write()
    before = made.state()
    with pytest.raises(HardStop, match="in a set that judges") as caught:
        made.take_over()
    assert split in caught.value.message
    assert made.state() == before
    found = made.take_over(leave_out_leaks=True)
    assert found[LEAKS] >= (6 if dress == "exact" else 1)
    assert found[APPENDED] == len(made.parts) - found[LEAKS]


def _other_page(made: Page) -> None:
    made.save([("0" * 16, "p0001", "PASS", "Ana", "")])


def _unsigned(made: Page) -> None:
    made.save([(made.page, "p0001", "PASS", " ", "")])


def _twice(made: Page) -> None:
    made.save([(made.page, "p0001", label, "Ana", "") for label in ("PASS", "missing")])


def _good_word(made: Page) -> None:
    made.save([(made.page, "p0001", "ok", "Ana", "")])


def _no_part(made: Page) -> None:
    made.save([(made.page, "p0099", "PASS", "Ana", "")])


def _changed_image(made: Page) -> None:
    path = Path(made.parts[2].goldens[0])
    ImageOps.flip(Image.open(path)).save(path)


def _lost_image(made: Page) -> None:
    Path(made.parts[0].tests[0]).unlink()


def _changed_list(made: Page) -> None:
    path = made.folder / "review.json"
    path.write_text(path.read_text().replace("new/R0", "new/R9"))


def _no_column(made: Page) -> None:
    made.save([(made.page, "p0001", "PASS")], "page,part,label")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_other_page, "another page"),
        (_unsigned, "nobody signed"),
        (_twice, "second label"),
        (_good_word, "means a good part"),
        (_no_part, "no such part"),
        (_changed_image, "not the one that was judged"),
        (_lost_image, "not the one that was judged"),
        (_changed_list, "changed after its page was made"),
        (_no_column, "by"),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_is_written(made: Page, spoil, said: str) -> None:
    spoil(made)
    before = made.state()
    with pytest.raises(HardStop, match=said) as caught:
        made.take_over()
    assert caught.value.expected
    assert made.state() == before


def test_labels_saved_by_a_spreadsheet_are_read(made: Page) -> None:
    path = made.folder / "labels.csv"
    path.write_text("\ufeff" + path.read_text().replace(",", ";").replace("\n", "\r\n"), encoding="utf-8")
    assert made.take_over()[APPENDED] == PARTS


def test_workspace_must_be_named(made: Page) -> None:
    with pytest.raises(UsageError, match="where these labels belong"):
        made.take_over(workspace=None)


def test_pool_whose_rows_are_relative_to_another_folder_keeps_its_rule(made: Page) -> None:
    """A pool with one rule a column stays readable: new rows follow it."""
    frame = read_changenet_csv(made.workspace.pool_csv, what="pool")
    for column in ("input_path", "golden_path"):
        frame[column] = [f"augmentation/mining_pool/{cell}" for cell in frame[column]]
    frame.to_csv(made.workspace.pool_csv, index=False)
    assert made.take_over()[APPENDED] == PARTS
    real, rules = read_real_rows(made.workspace, made.layout.lights, made.layout.image_ext)
    assert rules["input_path"] == "relative to the workspace"
    assert len(real) == len(frame) + PARTS
