"""The report: what stands on the page in each state of a run, and that data never becomes markup."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.report.hostile import PAYLOADS, poison
from tests.report.run_maker import RunMaker, write_findings

from deft_aoi.contract.errors import HardStop
from deft_aoi.report import findings
from deft_aoi.report import number_format as fmt
from deft_aoi.report.render import render_html, render_report
from deft_aoi.report.run_view import best_label, read_run

GOLDEN = Path(__file__).with_name("golden_values.json")
ORDER = (
    "verdict",
    "progress",
    "iterations",
    "scores",
    "confusion",
    "defects",
    "where",
    "weakest",
    "ledger",
    "dataset",
    "holdout",
    "time",
    "config",
    "next",
)


class Page(HTMLParser):
    """The page as a browser sees it: elements, attributes, text."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"stray </{tag}>"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_sections_stand_in_the_order_that_a_reader_needs(make_run) -> None:
    page = Page(render_html(make_run().root))
    ids = [a["id"] for t, a in page.elements if t == "h2"]
    assert tuple(ids) == ORDER
    assert page.open == []


def test_verdict_names_value_interval_target_and_sample_sizes(make_run) -> None:
    run = make_run()
    point = run.reports["iter2"]["target_point"]
    text = Page(render_html(run.root)).words()
    assert fmt.full(point["threshold"]) in text
    assert fmt.interval(point["far_interval"]).split(" to ")[1] in text
    assert "FAR < 1% at recall=100%" in text
    assert f"in {run.reports['iter2']['counts']['pass_rows']} good parts" in text


def test_errors_are_shown_by_part_type_and_board(make_run) -> None:
    run = make_run(blur=0.9)
    report = run.reports["iter2"]
    text = Page(render_html(run.root)).words()
    assert "By part type" in text
    assert "15 boards, most false alarms first; the first 12, more in kpi.json" in text
    for row in report["slices"]["boardname"]["listed"][:12]:
        assert f"{row['value']} {row['pass_rows']} {row['fp']} {fmt.percent(row['far_fraction'])} {row['defect_rows']}" in text
    assert "no part type 20" in text
    assert sum(row["fp"] for row in report["slices"]["part_type"]["listed"]) == report["target_point"]["fp"] > 0


def test_new_escapes_are_named_whether_or_not_the_model_was_promoted(make_run) -> None:
    run = make_run(blur=0.9, target="FAR < 1% at recall=80%")
    text, shown = Page(render_html(run.root)).words(), 0
    for label in ("iter1", "iter2"):
        voucher = json.loads((run.root / label / "inference" / "_EVALUATE.json").read_text())["comparison"]
        assert voucher["new_escapes"] == len(voucher["new_escapes_listed"])
        for row in voucher["new_escapes_listed"]:
            scores = f"{fmt.score(row['score_before'])} {fmt.score(row['score'])}"
            assert f"{row['sample_id']} {row['label']} {row['line']} {scores}" in text
            shown += 1
        assert (f"Caught by {fmt.iteration(voucher['with'])}, missed now" in text) == bool(voucher["new_escapes"])
    assert shown > 0


def test_target_not_met_is_said_plainly(make_run) -> None:
    html = render_html(make_run("finished", 1, blur=0.9).root)
    assert "NOT MET" in html
    assert "Do not deploy" in html
    assert 'class="hero bad"' in html


def test_small_sample_is_not_called_ready(make_run) -> None:
    run = make_run("finished", 2)
    assert run.reports["iter2"]["verdict"] == "MET (not yet supported by the sample size)"
    text = Page(render_html(run.root)).words()
    assert "MET (not yet supported by the sample size)" in text
    assert "can be deployed" not in text


@pytest.mark.parametrize(
    ("kind", "badge", "words_on_page"),
    [
        ("empty", "IN PROGRESS", "No model has been measured yet"),
        ("running", "IN PROGRESS", "No final verdict yet"),
        ("hard_stop", "STOPPED", "lost 3 rows"),
        ("failed", "INTERRUPTED", "no space left"),
    ],
)
def test_unfinished_runs_have_their_own_honest_page(make_run, kind: str, badge: str, words_on_page: str) -> None:
    html = render_html(make_run(kind, 1).root)
    page = Page(html)
    assert badge in page.words()
    assert words_on_page in page.words()
    assert "can be deployed" not in page.words()
    assert f"<title>{badge}" in html


def test_same_run_gives_the_same_bytes_wherever_and_whenever(make_run, tmp_path: Path) -> None:
    run = make_run()
    first = render_report(run.root).read_bytes()
    run.event("run", "report", "report written")
    assert render_report(run.root).read_bytes() == first
    moved = tmp_path / "elsewhere" / "ws" / "results" / run.root.name
    shutil.copytree(run.workspace, moved.parents[1])
    again = render_html(moved)
    without = re.compile(r'<img class="t"[^>]*>|<img src="data:[^"]*"[^>]*>')
    assert without.sub("", again) == without.sub("", first.decode())


def test_values_of_a_fixed_run(make_run) -> None:
    """`make golden` writes the file: look at its difference. Sentences are held by the tests of their situations."""
    html = render_html(make_run().root)
    html, heads = re.subn(r"(record head</th><td[^>]*>)[^<]*", r"\1", html)  # it hangs on the time zone and the versions
    assert heads == 1
    number = re.compile(r"(?<![\w./-])[-+]?\d[\d,]*(?:\.\d+)?%?(?![\w/-])")
    sections = {}
    for piece in html.split("<section ")[1:]:
        page = Page(f"<section {piece.partition('</section>')[0]}</section>")
        sections[page.elements[0][1]["aria-labelledby"]] = {
            "headings": re.findall(r"<h[23][^>]*>([^<]*)", piece),
            "verdicts": dict(Counter(re.findall(r"NOT MET|\bMET\b[^<:]*", piece))),
            "ids": " ".join(a["id"] or "" for _t, a in page.elements if "id" in a),
            "numbers": " ".join(number.findall(page.words())),
        }
    if os.environ.get("DEFT_UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(sections, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert sections == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_one_file_without_script_or_request(make_run) -> None:
    html = render_html(make_run().root)
    page = Page(html)
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {t for t, _a in page.elements}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("src", "href"):
                assert (value or "").startswith(("data:image/jpeg;base64,", "#")), value
    assert "url(" not in html
    assert "@import" not in html


def test_every_chart_has_a_name_a_description_and_its_table(make_run) -> None:
    page = Page(render_html(make_run().root))
    charts = [a for t, a in page.elements if t == "svg" and a.get("class") == "chart"]
    ids = {a["id"] for _t, a in page.elements if a.get("id")}
    tables = sum(t == "details" and a.get("class") == "data" for t, a in page.elements)
    assert len(charts) == tables >= 6
    for chart in charts:
        assert chart["role"] == "img"
        assert set((chart["aria-labelledby"] or "").split()) <= ids
    assert all(a.get("alt") is not None for t, a in page.elements if t == "img")
    assert sum(t == "h1" for t, _a in page.elements) == 1
    for tag in ("main", "nav", "header", "footer"):
        assert any(t == tag for t, _a in page.elements), tag
    assert len(ids) == sum(1 for _t, a in page.elements if a.get("id")), "an id is used twice"


def test_twenty_iterations_stay_small_and_no_file_of_the_run_is_read_again_and_again(make_run) -> None:
    run = make_run("running", 20)
    root, opened, looking = str(run.root), Counter(), [True]

    def watch(event: str, args: tuple) -> None:
        if event == "open" and looking and isinstance(args[0], str | os.PathLike) and os.fspath(args[0]).startswith(root):
            opened[os.fspath(args[0])] += 1

    sys.addaudithook(watch)
    html = render_html(run.root)
    looking.clear()
    assert len(html.encode()) <= 2_000_000
    assert opened
    assert max(opened.values()) <= 4, opened.most_common(3)


def test_hostile_values_appear_as_text_and_nothing_else(make_run) -> None:
    run = make_run("running", 1)
    assert len(PAYLOADS) >= 200
    plain = Page(render_html(run.root))
    shown = 0
    for start in range(0, len(PAYLOADS), 30):
        batch = PAYLOADS[start : start + 30]
        page = Page(render_html(poison(run, batch)))
        assert {t for t, _a in page.elements} <= {t for t, _a in plain.elements} | {
            "ul",
            "li",
            "ol",
            "b",
            "br",
            "details",
            "summary",
        }
        assert not any(name.startswith("on") for _t, a in page.elements for name in a)
        text = page.words()
        shown += sum(" ".join(fmt.cell(p, 64).split()) in text for p in batch)
    assert shown == len(PAYLOADS)


def test_a_value_is_never_a_template(make_run) -> None:
    run = make_run("running", 1)
    html = render_html(poison(run, ["{{ 7 * 191 }}", "{% for i in range(9) %}pwned{% endfor %}", "{{ config }}"]))
    assert "1337" not in html
    assert "{{ 7 * 191 }}" in html


def test_damaged_files_are_named_and_the_rest_is_shown(make_run) -> None:
    run = make_run("finished", 2)
    (run.root / "iter1" / "inference" / "latest" / "kpi.json").write_text("{", encoding="utf-8")
    (run.root / "run" / "gap_ledger.parquet").write_bytes(b"PAR1 nothing")
    text = Page(render_html(run.root)).words()
    assert "could not be read" in text
    assert "kpi.json" in text
    assert "gap_ledger.parquet" in text
    assert "MET (not yet supported by the sample size)" in text


def test_a_damaged_record_is_refused(make_run) -> None:
    run = make_run("running", 1)
    path = run.root / "loop_log.jsonl"
    path.write_bytes(path.read_bytes().replace(b"iter1", b"iter7", 1))
    with pytest.raises(HardStop):
        render_html(run.root)


def _finding(value: object, key: str = "/target_point/far_fraction") -> dict:
    evidence = [{"file": "iter1/inference/latest/kpi.json", "key": key, "value": value}]
    return {"title": "The false-alarm rate fell", "text": "It fell.", "kind": "result", "evidence": evidence}


def test_finding_that_matches_the_disk_is_shown(make_run) -> None:
    run = make_run("finished", 1)
    far = run.reports["iter1"]["target_point"]["far_fraction"]
    write_findings(run.root, [_finding(far), _finding(far, "target_point.far_fraction")])
    held, refused = findings.read(read_run(run.root).run)
    assert (len(held), refused) == (2, [])
    findings.require(read_run(run.root).run)
    assert "The false-alarm rate fell" in render_html(run.root)


@pytest.mark.parametrize(
    ("value", "key"), [(0.123, "/target_point/far_fraction"), (0, "/no/such"), (True, "/target_point/fp"), (1, "/target_point")]
)
def test_finding_that_does_not_match_is_refused_and_left_out(make_run, value: object, key: str) -> None:
    run = make_run("finished", 1)
    write_findings(run.root, [_finding(value, key)])
    with pytest.raises(HardStop):
        findings.require(read_run(run.root).run)
    html = render_html(run.root)
    assert "were left out" in html
    assert "It fell." not in html


def test_finding_that_leaves_the_run_is_refused(make_run, tmp_path: Path) -> None:
    run = make_run("running", 1)
    (tmp_path / "secret.json").write_text('{"a": 1}', encoding="utf-8")
    for name in ("../../../secret.json", "run/../../x.json"):
        write_findings(run.root, [{**_finding(1), "evidence": [{"file": name, "key": "/a", "value": 1}]}])
        with pytest.raises(HardStop):
            findings.require(read_run(run.root).run)


def test_more_than_seven_findings_are_refused(make_run) -> None:
    run = make_run("running", 1)
    far = run.reports["iter1"]["target_point"]["far_fraction"]
    write_findings(run.root, [_finding(far)] * 8)
    with pytest.raises(HardStop):
        findings.require(read_run(run.root).run)


def test_best_is_what_the_hand_over_takes(make_run) -> None:
    from deft_aoi.analysis.metric import best_iteration

    run: RunMaker = make_run("finished", 3)
    view = read_run(run.root).view
    assert best_label(view) == best_iteration(view)["label"]
    tied = json.loads(json.dumps(view))
    for it in tied["iterations"].values():
        it["far_fraction"] = it["cross_validated_far_fraction"] = 0.25
    assert best_label(tied) == best_iteration(tied)["label"] == "baseline"
