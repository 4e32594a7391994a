"""``make_workspace.py`` and ``check_data.py`` with their page: what is to be made or was found, as pictures."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import Canceled
from deft_aoi.contract.text import PASS, quoted
from deft_aoi.report.data_page import Section, write_data_page
from deft_aoi.workspaces.board_split import parse_fractions
from deft_aoi.workspaces.builder import report_text
from deft_aoi.workspaces.check_findings import CheckReport, write_fixed
from deft_aoi.workspaces.check_workspace import check_workspace
from deft_aoi.workspaces.own_arguments import find_samples
from deft_aoi.workspaces.own_data import Sample
from deft_aoi.workspaces.own_workspace import Preview, make_workspace

BOARDS_SHOWN, FINDINGS_SHOWN, PICTURES_SHOWN = 200, 200, 60


def make_from(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run ``make_workspace.py``'s arguments: the lines for a person, and the report.

    Raises:
        Canceled: the person at the terminal did not want this workspace.
    """
    fractions = parse_fractions(args.fractions)
    samples, lights, notes = find_samples(args)
    page = args.preview
    if page is None and not args.yes and sys.stdin.isatty() and sys.stderr.isatty():
        page = args.output.with_name(f"{args.output.name}-preview.html")

    def confirm(preview: Preview) -> bool:
        written = _preview_page(page, preview)
        return args.preview is None and _ask(preview, written)

    report = make_workspace(
        samples,
        args.output,
        lights=lights,
        fractions=fractions,
        seed=args.seed,
        spec_file=args.spec,
        notes=notes,
        defect_labels=args.defect_label,
        bit_depth=args.bit_depth,
        confirm=confirm if page is not None else None,
    )
    if report is None and args.preview is None:
        raise Canceled(
            "no workspace was made", expected="yes", hint="correct the data or the options; nothing was written but the page"
        )
    if report is None:
        return f"preview: {page.expanduser().absolute()}; nothing else was written", {"preview": str(page)}
    return report_text(report, args.output), report


def _ask(preview: Preview, page: Path) -> bool:
    """A person's word at the terminal, after the counts."""
    counts = preview.counts()
    lines = [f"{part}: " + ", ".join(f"{quoted(k)[1:-1]} {v}" for k, v in list(own.items())[:12]) for part, own in counts.items()]
    lines += [f"note: {quoted(note, 300)}" for note in preview.notes]
    print("\n".join([*lines, f"ten pairs and all counts: {page}"]), file=sys.stderr)
    print("Write this workspace? [yes/no] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _preview_page(file: Path, preview: Preview) -> Path:
    """Counts by class, board and light, ten pairs, and what was left out."""
    counts = preview.counts()
    labels = sorted({label for own in counts.values() for label in own} - {PASS})
    table = [[part, *(own[label] for label in (PASS, *labels)), own.total()] for part, own in counts.items()]
    boards = [
        (board, part, own[PASS], own.total() - own[PASS])
        for part, samples in preview.parts.items()
        for board, own in sorted(_by_board(samples).items())
    ]
    rows = sum(own.total() for own in counts.values())
    goldens = len({path for samples in preview.parts.values() for sample in samples for path in sample.golden})
    lights = [light or "one image a part" for light in preview.lights]
    return write_data_page(
        file,
        "Preview of a workspace",
        f"{rows} parts of {len(boards)} boards; nothing has been written yet.",
        [
            Section(
                "Classes", "Rows by part of the workspace; boards are never divided.", ["part", PASS, *labels, "rows"], table
            ),
            Section("Left out, detected, changed", "" if preview.notes else "nothing", ["note"], [[n] for n in preview.notes]),
            Section("Lights", f"{goldens} golden images in all.", ["light", "test images"], [[light, rows] for light in lights]),
            Section("Ten pairs", "Test images, then golden images.", pictures=preview.pairs),
            Section(
                "Boards",
                f"The first {BOARDS_SHOWN} of {len(boards)}." if len(boards) > BOARDS_SHOWN else "",
                ["board", "part", "good parts", "defects"],
                boards[:BOARDS_SHOWN],
            ),
        ],
    )


def _by_board(samples: Sequence[Sample]) -> dict[str, Counter[str]]:
    out: dict[str, Counter[str]] = {}
    for sample in samples:
        out.setdefault(sample.board, Counter())[sample.label] += 1
    return out


def check_from(args: argparse.Namespace) -> tuple[str, dict[str, Any], int]:
    """Run ``check_data.py``'s arguments: the lines for a person, the report, the exit code."""
    report = check_workspace(
        args.workspace,
        allow_near=args.allow_near_duplicates,
        defect_labels=args.defect_label,
        suspects=args.html is not None,
    )
    data, text = report.as_dict(), report.text()
    if args.write_fixed is not None:
        written = write_fixed(report, args.write_fixed)
        text += "\n" + ("\n".join(written[:5]) or "nothing to clean: no CSV written")
        data = {**data, "written": written}
    if args.html is not None:
        page = check_page(args.html, report)
        text, data = f"{text}\npage: {page}", {**data, "html": str(page)}
    return text, data, 3 if report.counts["error"] else 0


def check_page(file: Path, report: CheckReport) -> Path:
    """Every finding, those about images with the images."""
    shown = report.findings[:FINDINGS_SHOWN]
    sections = [
        Section(
            "Findings",
            f"The first {FINDINGS_SHOWN}; check_data.py --json has all." if len(report.findings) > len(shown) else "",
            ["level", "where", "what", "fix"],
            [(f.level, f.where, f.message, f.fix) for f in shown],
        )
    ]
    titles = {
        "near_duplicate": "Near-duplicates",
        "leakage": "Test images in two sets",
        "conflict": "Suspect labels: one image, two labels",
        "good_label": "Suspect labels: a defect whose name means good",
        "suspect_label": "Suspect labels: good parts that differ most from their golden, defects that differ least",
        "image_undecodable": "Damaged images, with the other image of the row",
    }
    for rule, title in titles.items():
        pictures = [
            (caption, [Path(p) for p in paths]) for f in report.findings if f.rule == rule for caption, paths in f.pictures
        ]
        if pictures:
            sections.append(Section(title, pictures=pictures[:PICTURES_SHOWN]))
    return write_data_page(file, "Check of a workspace", report.text().splitlines()[0], sections)
