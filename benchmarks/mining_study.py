"""Which rows of the pool help? Mining policies at equal budgets, over several seeds, on a copy of a workspace.

    nice python benchmarks/mining_study.py --output /somewhere/study --seeds 5      # workspace from DEFT_DEEPPCB
    python benchmarks/mining_study.py --output /somewhere/study --table             # the table of what is there

For each seed the baseline is trained once with the embedded engine and its defaults. Each policy adds as many rows as
plain k-NN by pair feature keeps, then fine-tunes once from the baseline's better checkpoint (``*_2`` policies: a second
time, from ``knn``). Training, scoring, gaps, search, exclusions, assembly and the choice of the checkpoint are the loop's
own functions; what is added here is who picks the rows. One process, one thread, every (seed, policy) is kept in
``OUTPUT/seed-N/POLICY/result.json``, so a killed study continues. About 15 to 60 CPU seconds a result.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from deft_aoi.analysis import dataset, gaps, kpi  # noqa: E402
from deft_aoi.analysis.identity import ContentIndex, Part  # noqa: E402
from deft_aoi.contract import spec as specs  # noqa: E402
from deft_aoi.contract.changenet_csv import read_changenet_csv, write_changenet_csv  # noqa: E402
from deft_aoi.contract.files import atomic_write_json, digest_json, read_json, sha256_file  # noqa: E402
from deft_aoi.contract.paths import RunPaths, Workspace  # noqa: E402
from deft_aoi.contract.text import PASS  # noqa: E402
from deft_aoi.engines import success  # noqa: E402
from deft_aoi.loop import config as settings  # noqa: E402
from deft_aoi.loop import specs as derive  # noqa: E402
from deft_aoi.loop.context import RunContext  # noqa: E402
from deft_aoi.loop.stages import evaluate, prestage, train  # noqa: E402
from deft_aoi.loop.stages.dataset import previous_training  # noqa: E402
from deft_aoi.mining import encoders, jobs, pairs, pool, select  # noqa: E402
from deft_aoi.mining.store import EmbeddingStore, EncoderIdentity  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

POLICIES = {
    "knn": "k-NN by pair feature (what the loop does)",
    "random_mix": "random, with k-NN's label mix",
    "random": "random",
    "knn_no_sdg": "k-NN by pair feature, real rows only, same budget",
    "knn_minus_sdg": "k-NN's own real rows, its synthetic ones left out",
    "pixels": "k-NN by appearance (16 x 16 pixels)",
    "knn_cut": "k-NN by pair feature, min_similarity CUT, own budget",
    "all": "all of the pool",
    "baseline_2": "2nd iteration after k-NN, encoder `baseline`",
    "latest_2": "2nd iteration after k-NN, encoder `latest`",
}
CUT = 0.6
SIMILARITY_BINS = (-1.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)
MAX_TOP_K = 400


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


class Study:
    """One seed of the study: the loop's own view of the workspace, and the pool with its synthetic rows."""

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
        found = pairs.scan(workspace, self.lights, self.ext)
        staged = pairs.stage(found, folder, workspace=workspace, final_dir=folder)
        self.leaks = prestage.forbidden(self.ctx)
        built = pool.build(
            workspace, self.lights, self.ext, index=self.index, out_dir=folder, sdg_rows=staged.rows, forbidden=self.leaks
        )
        self.pool = select.with_filepath(built.frame, self.lights[0], self.ext)
        self.key = digest_json([settings.effective_spec(user_spec, config), config.training_epochs, built.rows_digest, CUT])

    # -- the loop's steps ------------------------------------------------------------------------------------------------

    def train(self, name: str, rows: Part, images: Path, start: Path | None) -> Trained:
        """Train on ``rows``, score both checkpoints on the KPI set, the better one on the hold-out."""
        began, folder, ctx = time.process_time(), self.out / name, self.ctx
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        log, csv = folder / "engine.log", folder / "train.csv"
        write_changenet_csv(rows.frame, csv)
        spec = derive.train_spec(
            ctx.workspace, ctx.user_spec, ctx.config, train_csv=csv, train_images=images, pretrained=start
        )
        specs.dump_spec(spec, folder / "train.yaml")
        engine(log, "visual_changenet", "train", "-e", f"{folder}/train.yaml", f"train.results_dir={folder}/train")
        by_epoch = {train.epoch_of(p): p for p in success.new_checkpoints(folder / "train", 0)}
        losses = success.validation_losses(folder / "train" / "status.json")
        best = by_epoch[min(by_epoch, key=lambda e: (losses[e], e))]
        chosen_of = {"best_val": best, "latest": by_epoch[max(by_epoch)]}
        scored = {c: self._score(folder, spec, p, "kpi", c) for c, p in chosen_of.items()}
        chosen = evaluate.choose({c: report for c, (report, _) in scored.items()})
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
            "key": self.key, "policy": name, "seed": self.seed, "chosen": chosen, "train_rows": len(rows.frame),
            "kpi": _measures(report), "holdout": _measures(holdout), "threshold": threshold,
            "fixed": {k: fixed[k] for k in ("far_fraction", "recall_fraction")},
            "cpu_seconds": round(time.process_time() - began, 1),
        }  # fmt: skip
        return Trained(checkpoint, threshold, frame, rows, result)

    def _score(self, folder: Path, spec: specs.Spec, checkpoint: Path, split: str, name: str) -> tuple[Any, Any]:
        source = self.ctx.splits[split]
        path = folder / f"infer-{split}.yaml"
        specs.dump_spec(derive.inference_spec(spec, csv=source.csv, images=source.layout.images_dir), path)
        engine(
            folder / "engine.log", "visual_changenet", "inference", "-e", str(path),
            f"inference.checkpoint={checkpoint}", f"inference.results_dir={folder / name}",
        )  # fmt: skip
        return evaluate.kpi_report(self.ctx, folder / name / "inference.csv", split)

    def targets(self, model: Trained) -> pd.DataFrame:
        """The weak KPI rows of a trained model, one a sample and light."""
        classify = specs.get(self.ctx.spec, "model.classify")
        found = gaps.find_gaps(
            model.kpi_frame, model.threshold, layout=self.ctx.splits["kpi"].layout,
            difference_module=classify["difference_module"], eval_margin=float(classify["eval_margin"]),
            top_k_per_label=self.ctx.config.top_k_per_label,
        )  # fmt: skip
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
                    work / "engine.log", "embedding", "image_embeddings", "-e", str(work / "embed.yaml"),
                    f"input_parquet={source}", f"output_parquet={result}",
                )  # fmt: skip
            else:
                encoders.embed_table(source, result, encoders.make_encoder("pixels"))
            store.add(*jobs.read_job_output(missing, result, root=self.root, lights=self.lights, pair=pair))
        return store

    # -- who picks the rows ----------------------------------------------------------------------------------------------

    def nearest(
        self, model: Trained, encoder: Path | None, *, budget: int | None = None, cut: float | None = None, real: bool = False
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """The rows that k-NN keeps, and what is known of its neighbours.

        With a ``budget`` the number of neighbours a target grows until it is reached; of the last neighbours that came in,
        the most similar fill it.
        """
        import pandas as pd

        targets = self.targets(model)
        store = self.embed(targets, encoder)
        samples = targets.drop_duplicates("sample_id").reset_index(drop=True)
        rows = self.pool[self.pool["provenance"] == "real"].reset_index(drop=True) if real else self.pool
        taken, kept, mined = None, None, None
        top_k = 1 if budget else self.ctx.config.top_k_per_target
        while mined is None or (budget is not None and len(kept) < budget and top_k <= MAX_TOP_K):
            taken = kept
            mined = select.select(
                samples, store.matrix(samples["content_id"].tolist()), rows, store,
                config=select.MiningConfig(top_k=top_k, min_similarity=cut, search_eligible=True),
                encoder=store.encoder.name, exclusions=self.exclusions(model.rows),
            )  # fmt: skip
            kept, top_k = mined.kept, top_k + 1
        facts = {"top_k": top_k - 1, "targets": len(samples), "target_labels": samples["label"].value_counts().to_dict()}
        if budget is not None and len(kept) > budget:
            before = set() if taken is None else set(taken["sample_id"])
            inside = kept["sample_id"].isin(before)
            last = kept[~inside].assign(_by=kept["similarity"].astype(float)).nlargest(budget - int(inside.sum()), "_by")
            kept = pd.concat([kept[inside], last.drop(columns="_by")]).sort_values("sample_id").reset_index(drop=True)
        if budget is None:
            facts["neighbours"] = _neighbours(mined.pairs)
            facts["kept_similarity"] = sorted(round(float(s), 4) for s in kept["similarity"])
        return kept, facts

    def exclusions(self, training: Part) -> select.Exclusions:
        """What the loop excludes: training contents, featureless rows in use, evaluation contents."""
        solid = ~training.ids["featureless"].to_numpy(bool)
        ids = frozenset(training.ids["content_id"][solid])
        return select.Exclusions(ids, frozenset(pool.row_keys(training.frame)), self.leaks)

    def eligible(self, training: Part) -> pd.DataFrame:
        """Pool rows that may be added: the rule of :func:`deft_aoi.mining.select.select`, for those who do not search."""
        frame, out = self.pool, self.exclusions(training)
        flat = frame["featureless"].to_numpy(bool)
        barred = set(out.training_ids).union(*out.leaks.values())
        mixed = frame.groupby("content_id")["label"].transform("nunique").to_numpy() > 1
        solid = ~flat & ~frame["content_id"].isin(barred).to_numpy() & ~mixed & ~frame["content_id"].duplicated().to_numpy()
        keys = frame[list(pool.ROW_KEY)].itertuples(index=False, name=None)
        unused = np.array([key not in out.training_keys for key in keys])
        return frame[solid | (flat & unused)].reset_index(drop=True)

    def pick(self, policy: str, knn: pd.DataFrame, base: Trained) -> tuple[pd.DataFrame, dict[str, Any]]:
        """The rows that ``policy`` adds to the base training set."""
        import pandas as pd

        free, budget = self.eligible(base.rows), len(knn)
        if not set(knn["sample_id"]) <= set(free["sample_id"]):
            raise RuntimeError("k-NN kept a row that is not eligible")
        rng = np.random.default_rng([self.seed, sorted(POLICIES).index(policy)])
        if policy == "all":
            return free, {}
        if policy == "random":
            return free.iloc[np.sort(rng.choice(len(free), budget, replace=False))], {}
        if policy == "random_mix":
            parts = [
                free.iloc[rng.choice(np.flatnonzero(free["label"] == label), count, replace=False)]
                for label, count in sorted(knn["label"].value_counts().items())
            ]
            return pd.concat(parts).sort_index(), {}
        if policy == "knn_minus_sdg":
            return knn[knn["provenance"] == "real"], {}
        if policy == "knn_no_sdg":
            return self.nearest(base, base.checkpoint, budget=budget, real=True)
        if policy == "knn_cut":
            return self.nearest(base, base.checkpoint, cut=CUT)
        return self.nearest(base, None, budget=budget)  # pixels

    def fine_tune(self, policy: str, start: Trained, added: pd.DataFrame, facts: dict[str, Any], iteration: int) -> Trained:
        """Add rows, check the set as the loop does, fine-tune from ``start``."""
        layout = specs.layout(self.ctx.spec, self.root)
        mined = self.index.part("mined rows", added.reset_index(drop=True), layout)
        previous = Part(start.rows.name, start.rows.frame, layout, start.rows.ids)
        provenance = None if iteration == 1 else dataset.read_provenance(self.out / "knn" / "provenance.csv")
        frame, lineage = dataset.assemble(previous, mined, iteration=iteration, previous_provenance=provenance)
        against = [
            Part(name, split.frame, split.layout, self.ctx.identities[name])
            for name, split in self.ctx.splits.items() if name != "train"
        ]  # fmt: skip
        dataset.validate(frame, layout=layout, index=self.index, against=against, previous=previous, provenance=lineage)
        trained = self.train(policy, self.index.part(policy, frame, layout), self.root, start.checkpoint)
        lineage.astype(str).to_csv(self.out / policy / "provenance.csv", index=False)
        real, bad = (added["provenance"] == "real").to_numpy(), (added["label"] != PASS).to_numpy()
        trained.result["added"] = {
            "rows": len(added), "real": int(real.sum()), "sdg": int((~real).sum()), "real_defects": int((real & bad).sum()),
            "labels": {str(k): int(v) for k, v in sorted(added["label"].value_counts().items())},
        }  # fmt: skip
        trained.result["facts"] = facts
        return trained


def _measures(report: dict[str, Any]) -> dict[str, float]:
    points = {p["recall_target_fraction"]: p["far_fraction"] for p in report["operating_points"]}
    return {"far_at_100": points[1.0], "far_at_99": points[0.99], "auroc": report["auroc"]}


def _neighbours(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Of the neighbours that could be kept: how many are on the target's side, and of its label, by similarity."""
    import pandas as pd

    kept = found[found["decision"] == select.KEPT]
    side = (kept["target_label"] == PASS).map({True: "good", False: "defect"})
    slot = pd.cut(kept["similarity"].astype(float), list(SIMILARITY_BINS), right=False)
    table = pd.DataFrame(
        {
            "target": side,
            "low": [float(interval.left) for interval in slot],
            "similarity": kept["similarity"].astype(float),
            "same_side": (kept["target_label"] == PASS) == (kept["label"] == PASS),
            "same_label": kept["target_label"] == kept["label"],
        }
    )
    out = []
    for (target, low), part in table.groupby(["target", "low"]):
        counts = {"pairs": len(part), "same_side": int(part["same_side"].sum()), "same_label": int(part["same_label"].sum())}
        out.append({"target": target, "low": low, **counts})
    for target, part in table.groupby("target"):
        out.append({"target": target, "low": None, "pairs": len(part), "median": round(float(part["similarity"].median()), 4)})
    return out


def _keep(study: Study, name: str, made: Trained) -> Trained:
    made.kpi_frame.to_parquet(study.out / name / "kpi.parquet")
    atomic_write_json(study.out / name / "result.json", made.result)
    return made


def _kept(study: Study, name: str) -> Trained | None:
    """An earlier result of the same study, ready to fine-tune from."""
    import pandas as pd

    folder = study.out / name
    if not (folder / "result.json").is_file():
        return None
    result = read_json(folder / "result.json", what="study result")
    if result["key"] != study.key:
        return None
    frame = read_changenet_csv(folder / "train.csv", what=name)
    rows = study.base if name == "baseline" else study.index.part(name, frame, study.base.layout)
    return Trained(folder / "chosen.pth", result["threshold"], pd.read_parquet(folder / "kpi.parquet"), rows, result)


def run_seed(study: Study, wanted: list[str]) -> None:
    """Every wanted policy of one seed, those done before left as they are."""
    base = _kept(study, "baseline")
    if base is None:
        base = _keep(study, "baseline", study.train("baseline", study.base, study.root, None))
    kept, facts = study.nearest(base, base.checkpoint)
    for policy in wanted:
        if _kept(study, policy):
            continue
        if policy.endswith("_2"):
            first = _kept(study, "knn")
            if first is None:
                raise RuntimeError("the second iteration needs the policy knn")
            own, _ = study.nearest(first, base.checkpoint)
            if own.empty:
                continue
            if policy == "latest_2":
                own, more = study.nearest(first, first.checkpoint, budget=len(own))
            else:
                own, more = study.nearest(first, base.checkpoint)
            made = study.fine_tune(policy, first, own, more, 2)
        else:
            added, more = (kept, facts) if policy == "knn" else study.pick(policy, kept, base)
            made = study.fine_tune(policy, base, added, more, 1)
        _keep(study, policy, made)
        print(f"seed {study.seed} {policy}: {made.result['cpu_seconds']} s", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of results and of the workspace's copy")
    parser.add_argument("--workspace", type=Path, help="default: workspace/ under DEFT_DEEPPCB")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 1")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--table", action="store_true", help="run nothing, print what is there")
    args = parser.parse_args(argv)
    from mining_study_table import summarise

    out = args.output.resolve()
    if not args.table:
        source = args.workspace or (Path(os.environ["DEFT_DEEPPCB"]) / "workspace" if "DEFT_DEEPPCB" in os.environ else None)
        if source is None:
            parser.error("--workspace, or DEFT_DEEPPCB in the environment, says where the data is")
        if not (out / "workspace").exists():
            shutil.copytree(source, out / "workspace.part", copy_function=shutil.copyfile, dirs_exist_ok=True)
            (out / "workspace.part").rename(out / "workspace")
        for seed in range(1, args.seeds + 1):
            run_seed(Study(Workspace(out / "workspace"), out, seed), args.policies)
    print(summarise(out, POLICIES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
