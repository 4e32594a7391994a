"""What one seed of ``mining_study.py`` takes from the loop: training, scoring, choice of checkpoint, gaps, embedding."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis import gaps, kpi
from deft_aoi.analysis.identity import ContentIndex, Part
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import write_changenet_csv
from deft_aoi.contract.files import digest_json, sha256_file
from deft_aoi.contract.paths import RunPaths, Workspace
from deft_aoi.engines import success
from deft_aoi.loop import config as settings
from deft_aoi.loop import specs as derive
from deft_aoi.loop.context import RunContext
from deft_aoi.loop.stages import evaluate, train
from deft_aoi.loop.stages.dataset import previous_training
from deft_aoi.mining import encoders, jobs, pool, pregen_scan, pregen_staging, select
from deft_aoi.mining.store import EmbeddingStore, EncoderIdentity

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trained:
    """A scored training: its chosen checkpoint, KPI threshold, scored KPI frame and the rows it was trained on."""

    checkpoint: Path
    threshold: float
    kpi_frame: pd.DataFrame
    rows: Part
    result: dict[str, Any]


def engine(log: Path, *argv: str) -> None:
    """One command of the embedded engine in this process; what it prints goes to ``log``."""
    from deft_aoi.engines.embedded import cli

    with log.open("a", encoding="utf-8") as out, contextlib.redirect_stdout(out):
        if code := cli.main(list(argv)):
            raise RuntimeError(f"the engine ended with {code}: {' '.join(argv)}")


class LoopSteps:
    """One seed: the loop's own view of the workspace, and the pool with its synthetic rows."""

    def __init__(self, workspace: Workspace, out: Path, seed: int) -> None:
        user_spec = specs.load_spec(workspace.baseline_spec, what="baseline spec")
        config = settings.resolve({"seed": seed, "engine": "embedded"}, user_spec)
        run = RunPaths(workspace.results / "study")
        self.ctx = RunContext(run, workspace, {}, config, lambda _: None, lambda _: None)  # type: ignore[arg-type]
        self.seed, self.out, self.root = seed, out / f"seed-{seed}", workspace.root
        self.lights, self.ext = specs.lights(self.ctx.spec), specs.image_ext(self.ctx.spec)
        self.index = ContentIndex(self.ctx.digest_cache)
        self.base = previous_training(self.ctx, "iter1")
        folder = run.synth_pool
        folder.mkdir(parents=True, exist_ok=True)
        found = pregen_scan.scan(workspace, self.lights, self.ext)
        staged = pregen_staging.stage(found, folder, workspace=workspace, final_dir=folder)
        built = pool.build(workspace, self.lights, self.ext, index=self.index, out_dir=folder, sdg_rows=staged.rows)
        built = pool.identify(built, workspace, index=self.index, out_dir=folder, held_out=self.ctx.held_out)
        self.leaks = pool.leaking_contents(built.frame)
        self.pool = select.with_filepath(built.frame, self.lights[0], self.ext)
        self.key = digest_json([settings.effective_spec(user_spec, config), config.training_epochs, built.rows_digest])

    def train(self, name: str, rows: Part, images: Path, start: Path | None) -> Trained:
        """Train on ``rows``, score both checkpoints on the KPI set, the better one on the hold-out."""
        began, folder, ctx = time.process_time(), self.out / name, self.ctx
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        log, csv = folder / "engine.log", folder / "train.csv"
        write_changenet_csv(rows.frame, csv)
        spec = derive.train_spec(ctx.workspace, ctx.user_spec, ctx.config, train_csv=csv, train_images=images, pretrained=start)
        specs.dump_spec(spec, folder / "train.yaml")
        engine(log, "visual_changenet", "train", "-e", f"{folder}/train.yaml", f"train.results_dir={folder}/train")
        by_epoch = {train.epoch_of(p): p for p in success.new_checkpoints(folder / "train", 0)}
        losses = success.validation_losses(folder / "train" / "status.json")
        best = by_epoch[min(by_epoch, key=lambda e: (losses[e], e))]
        chosen_of = {"best_val": best, "latest": by_epoch[max(by_epoch)]}
        scored = {"best_val": self._score(folder, spec, best, "kpi", "best_val")}
        same = chosen_of["latest"] == best
        scored["latest"] = scored["best_val"] if same else self._score(folder, spec, chosen_of["latest"], "kpi", "latest")
        chosen = evaluate.choose_checkpoint({c: report for c, (report, _) in scored.items()})
        report, frame = scored[chosen]
        checkpoint = folder / "chosen.pth"
        shutil.copyfile(chosen_of[chosen], checkpoint)
        shutil.rmtree(folder / "train")
        threshold = float(report["target_point"]["threshold"])
        holdout, held = self._score(folder, spec, checkpoint, "holdout", "holdout")
        ids = ctx.identities["holdout"]
        fixed = kpi.apply_threshold(
            held, threshold, content_ids=ids["content_id"].to_numpy(), featureless=ids["featureless"].to_numpy()
        )["point"]
        result = {
            "key": self.key,
            "policy": name,
            "seed": self.seed,
            "chosen": chosen,
            "train_rows": len(rows.frame),
            "kpi": _measures(report),
            "holdout": _measures(holdout),
            "threshold": threshold,
            "fixed": {k: fixed[k] for k in ("far_fraction", "recall_fraction")},
            "cpu_seconds": round(time.process_time() - began, 1),
        }
        return Trained(checkpoint, threshold, frame, rows, result)

    def _score(self, folder: Path, spec: specs.Spec, checkpoint: Path, split: str, name: str) -> tuple[Any, Any]:
        source = self.ctx.splits[split]
        path = folder / f"infer-{split}.yaml"
        specs.dump_spec(derive.inference_spec(spec, csv=source.csv, images=source.layout.images_dir), path)
        engine(
            folder / "engine.log",
            "visual_changenet",
            "inference",
            "-e",
            str(path),
            f"inference.checkpoint={checkpoint}",
            f"inference.results_dir={folder / name}",
        )
        return evaluate.kpi_report(self.ctx, folder / name / "inference.csv", split)

    def targets(self, model: Trained) -> pd.DataFrame:
        """The weak KPI rows of a trained model, one a sample and light."""
        classify = specs.get(self.ctx.spec, "model.classify")
        found = gaps.find_gaps(
            model.kpi_frame,
            model.threshold,
            layout=self.ctx.splits["kpi"].layout,
            difference_module=classify["difference_module"],
            eval_margin=float(classify["eval_margin"]),
            top_k_per_label=self.ctx.config.top_k_per_label,
        )
        ids = self.ctx.identities["kpi"]["content_id"].to_numpy()
        return found.assign(golden_filepath=found["golden_path"], content_id=ids[found["row"].to_numpy()])

    def embed(self, targets: pd.DataFrame, checkpoint: Path | None) -> EmbeddingStore:
        """Pool and targets by pair feature of ``checkpoint``, or by appearance where there is none."""
        pair, work = checkpoint is not None, self.out / "embedding"
        work.mkdir(parents=True, exist_ok=True)
        identity = encoders.make_encoder("pixels").identity
        if checkpoint is not None:
            identity = EncoderIdentity("pair_feature", sha256_file(checkpoint), "study")
        store = EmbeddingStore(self.ctx.embedding_cache, identity)
        specs.dump_spec({"model": "pair_feature", "model_path": str(checkpoint)}, work / "embed.yaml")
        for rows in (pool.per_light(self.pool, self.lights, self.ext), targets):
            missing = jobs.missing_rows(rows, store)
            if missing.empty:
                continue
            source, result = work / "in.parquet", work / "out.parquet"
            jobs.write_job_input(missing, source, root=self.root, pair=pair)
            if pair:
                engine(
                    work / "engine.log",
                    "embedding",
                    "image_embeddings",
                    "-e",
                    str(work / "embed.yaml"),
                    f"input_parquet={source}",
                    f"output_parquet={result}",
                )
            else:
                encoders.embed_table(source, result, encoders.make_encoder("pixels"))
            store.add(*jobs.read_job_output(missing, result, root=self.root, lights=self.lights, pair=pair))
        return store


def _measures(report: dict[str, Any]) -> dict[str, float]:
    points = {p["recall_target_fraction"]: p["far_fraction"] for p in report["operating_points"]}
    return {"far_at_100": points[1.0], "far_at_99": points[0.99], "auroc": report["auroc"]}
