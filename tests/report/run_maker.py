"""Builds run folders without training: real records, real KPI files, real pictures; only the scores are drawn from a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from deft_aoi.analysis import compare, data_requests, gap_ledger, gaps, gaps_output, kpi, kpi_output
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.files import sha256_bytes
from deft_aoi.contract.kpi_target import KpiTarget, parse_kpi_target
from deft_aoi.contract.schema import write_checked
from deft_aoi.record import log

GOOD, DEFECTS = 60, 8
TYPES = ("open", "short", "spur")
HEX = "ab" * 32


@dataclass
class RunMaker:
    """One run below ``<workspace>/results``.

    Attributes:
        workspace: a folder; made with its pictures.
        target: the KPI target.
        blur: how far the baseline's scores overlap; each iteration halves it.
    """

    workspace: Path
    target: str = "FAR < 1% at recall=100%"
    blur: float = 0.5
    root: Path = field(init=False)
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    rca_dirs: dict[str, str] = field(default_factory=dict)
    ledgers: list[pd.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.workspace / "results" / "run_20260101_000000"
        (self.root / "run").mkdir(parents=True)
        rng = np.random.default_rng(7)
        rows = []
        for i in range(GOOD + DEFECTS * len(TYPES)):
            label = "PASS" if i < GOOD else TYPES[(i - GOOD) % len(TYPES)]
            row = {"input_path": "boards", "golden_path": "golden", "label": label, "object_name": f"C{i:03d}"}
            rows.append({**row, "boardname": f"B{i % 15:02d}", "part_type": ("R0402", "C0603", "")[i % 3]})
            pixels = np.kron(rng.integers(0, 2, (6, 6), dtype=np.uint8) * 200, np.ones((4, 4), dtype=np.uint8))
            for folder, changed in (("golden", False), ("boards", label != "PASS")):
                image = Image.fromarray(pixels).convert("RGB")
                if changed:
                    image.paste((250, 40, 40), (8, 8, 14, 14))
                path = self.workspace / "kpi" / "images" / folder / f"C{i:03d}_L.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
        self.rows = pd.DataFrame(rows)

    @property
    def layout(self) -> ImageLayout:
        return ImageLayout(self.workspace / "kpi" / "images", ("L",), ".png")

    @property
    def kpi_target(self) -> KpiTarget:
        return parse_kpi_target(self.target)

    def event(self, label: str, stage: str, summary: str, *, seconds: float = 1.0, status: str = "ok", **data: Any) -> None:
        log.append(self.root, iter_label=label, stage=stage, status=status, summary=summary, data=data, duration_sec=seconds)

    def begin(self) -> RunMaker:
        config = {"engine": "embedded", "platform": "local", "kpi_target": self.target, "max_iterations": 3, "seed": 1}
        self.event("run", "approve", "plan approved", config=config, plan_digest=HEX, run_id=self.root.name)
        self.event("run", "assets", "assets ready")
        self.event("run", "prestage", "40 pairs staged", state={"pairs": 40})
        return self

    def baseline(self) -> RunMaker:
        self._model("baseline", 200)
        return self

    def iterate(self, number: int) -> RunMaker:
        label, before = f"iter{number}", "baseline" if number == 1 else f"iter{number - 1}"
        routing = self.root / label / "routing_results" / "T"
        routing.mkdir(parents=True)
        targets = pd.read_parquet(self.root / self.rca_dirs[before] / "kpi_gaps.parquet")
        targets.to_parquet(routing / "mining_gaps.parquet")
        count = int(targets["sample_id"].nunique())
        self.event(label, "routing", "routed", state={"targets": count, "routing_dir": self.rel(routing)})
        self.event(label, "anomalygen", "40 staged pairs unchanged", state={"sdg_pairs": 40})
        self._mine(label, targets)
        self.event(
            label,
            "dataset",
            "assembled",
            provenance={"real": 200 + 3 * number, "sdg": number},
            distinct=190 + 4 * number,
            labels={"PASS": 160, "open": 20 + 4 * number, "short": 20},
            state={"train_rows": 200 + 4 * number, "train_added": 4, "train_sdg": number},
        )
        self._model(label, 200 + 4 * number, before)
        return self

    def stop(self, reason: str) -> RunMaker:
        self.event("run", "loop_stop", f"loop ended: {reason}", reason=reason)
        return self

    def fail(self, label: str, stage: str, summary: str) -> RunMaker:
        self.event(
            label, stage, summary, status="error", kind="hard stop", exit_code=3, **{"try": "mend the file, then run again"}
        )
        return self

    def holdout(self) -> RunMaker:
        best = self.frames[list(self.frames)[-1]]
        threshold = self.reports[list(self.frames)[-1]]["target_point"]["threshold"]
        folder = self.root / "run" / "holdout"
        folder.mkdir()
        write_checked(
            folder / "holdout.json",
            kpi.apply_threshold(
                best, threshold + 0.3, target=self.kpi_target, kpi_point=self.reports[list(self.frames)[-1]]["target_point"]
            ),
            "holdout",
        )
        return self

    def rel(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _mine(self, label: str, targets: pd.DataFrame) -> None:
        folder = self.root / label / "mining_filter"
        folder.mkdir(parents=True)
        first = targets.drop_duplicates("sample_id").head(4)
        pd.DataFrame(
            {
                "target_filepath": first["filepath"],
                "source_filepath": [f"kpi/images/golden/C{i:03d}_L.png" for i in range(len(first))],
                "similarity": [0.99 - i / 100 for i in range(len(first))],
                "label": "open",
                "provenance": ["real", "sdg", "real", "real"][: len(first)],
                "decision": "kept",
            }
        ).to_parquet(folder / "mined_pairs.parquet")
        counts = "candidate_count,kept_count,rejected_count,rejected_leaks,rejected_duplicate_content\n6,4,2,1,1\n"
        (folder / "knn_summary.csv").write_text(counts, encoding="utf-8")
        self.event(
            label,
            "data_mining",
            "4 of 6 candidates kept",
            candidates=6,
            rejected=2,
            similarity_threshold="0.9",
            warnings=["the yield fell"],
            state={"mined_rows": 4, "mined_real": 3, "mined_sdg": 1, "mined_real_defects": 1},
        )

    def _model(self, label: str, train_rows: int, before: str | None = None) -> None:
        number = 0 if label == "baseline" else int(label[4:])
        state = {"train_rows": train_rows, "ckpt_latest": f"{label}/train/model_epoch_001_step_00001.pth"}
        checkpoint = self.root / state["ckpt_latest"]
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(label.encode())
        started = {} if before is None else {"fine_tuned_from": f"{before}/train/model_epoch_001_step_00001.pth"}
        self.event(label, "train", f"{label} trained", seconds=60.0 + number, state=state, **started)
        self.event(label, "inference", f"{label} scored", seconds=9.0)
        frame = self.frames[label] = self.scored(number)
        folder = self.root / label / "inference" / "latest"
        folder.mkdir(parents=True)
        frame.to_csv(folder / "inference.csv", index=False)
        report = self.reports[label] = kpi_output.analyze_and_write(
            frame, folder, target=self.kpi_target, seconds_per_call=10, plots=False
        )
        point, paired = report["target_point"], None
        if before is not None:
            old = self.reports[before]["target_point"]["threshold"]
            found = compare.compare(self.frames[before], frame, old, point["threshold"], target=self.kpi_target)
            paired = {"with": before, **found}
        voucher = {"version": 1, "label": label, "chosen": "latest", "files": {"latest/kpi.json": HEX}, "comparison": paired}
        write_checked(folder.parent / "_EVALUATE.json", voucher, "evaluate")
        self.event(
            label,
            "evaluate",
            report["verdict_sentence"],
            seconds=2.0,
            state={
                "chosen": "latest",
                "best_ckpt_path": state["ckpt_latest"],
                "best_ckpt_sha256": sha256_bytes(label.encode()),
                "inference_csv": self.rel(folder / "inference.csv"),
                "kpi_json": self.rel(folder / "kpi.json"),
                "far_fraction": point["far_fraction"],
                "recall_fraction": point["recall_fraction"],
                "threshold": point["threshold"],
                "verdict": report["verdict"],
                "kpi_met": report["facts"]["kpi"],
                "cross_validated": report["facts"]["cross_validated"],
                "cross_validated_far_fraction": report["estimate"]["far_fraction"],
                "promoted": paired is None or paired["promote"],
            },
        )
        self._rca(label, frame, point["threshold"])

    def _rca(self, label: str, frame: pd.DataFrame, threshold: float) -> None:
        folder = self.root / label / "rca_results" / "T"
        band = gaps.margin_band(threshold, "learnable", None)
        found = gaps.find_gaps(frame, threshold, layout=self.layout)
        gaps_output.write_outputs(found, frame, threshold, folder, band=band, top_k_per_label=50)
        self.rca_dirs[label] = self.rel(folder)
        if label != "baseline":
            self._ledger(label, found, threshold, band)
        self.event(label, "rca", "weak samples", state={"rca_dir": self.rel(folder), "weak_samples": len(found)})

    def _ledger(self, label: str, found: pd.DataFrame, threshold: float, band: tuple[float, float]) -> None:
        targets = pd.read_parquet(self.root / label / "routing_results" / "T" / "mining_gaps.parquet")
        pairs = pd.read_parquet(self.root / label / "mining_filter" / "mined_pairs.parquet")
        self.ledgers.append(
            gap_ledger.gap_ledger(targets, pairs, self.frames[label], threshold, iteration=int(label[4:]), band=band)
        )
        table = pd.concat(self.ledgers, ignore_index=True)
        table.to_parquet(self.root / "run" / "gap_ledger.parquet")
        wanted = data_requests.build(found, sorted(found["sample_id"])[:3], table, self.rows)
        write_checked(self.root / "run" / "data_requests.json", wanted, "open_gaps")

    def scored(self, number: int) -> pd.DataFrame:
        """The KPI rows, scored: the overlap halves with each iteration."""
        rng = np.random.default_rng(100 + number)
        spread = self.blur / 2**number + 0.02
        good = np.clip(np.abs(rng.normal(0.0, spread, GOOD)), 1e-6, 1 - 1e-6)
        bad = np.clip(1 - np.abs(rng.normal(0.0, spread, DEFECTS * len(TYPES))), 1e-6, 1 - 1e-6)
        return self.rows.assign(siamese_score=np.round(np.concatenate([good, bad]), 7))


def write_findings(root: Path, findings: list[dict[str, Any]]) -> None:
    (root / "run" / "findings.json").write_text(json.dumps({"findings": findings}), encoding="utf-8")
