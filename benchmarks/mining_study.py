"""Which rows of the pool help? Mining policies at equal budgets, over several seeds, on a copy of a workspace.

    nice python benchmarks/mining_study.py --output /somewhere/study --seeds 5      # workspace from DEFT_DEEPPCB
    python benchmarks/mining_study.py --output /somewhere/study --table             # the table of what is there
    python benchmarks/mining_study.py --output /somewhere/study3 --only-seed 3      # one of several processes

For each seed the baseline is trained once with the embedded engine and its defaults. Each policy adds as many rows as
plain k-NN by pair feature keeps, then fine-tunes once from the baseline's better checkpoint (``*_2`` policies: a second
time, from ``knn``). Training, scoring, gaps, search, exclusions, assembly and the choice of the checkpoint are the loop's
own functions; what is added here is who picks the rows. One process, one thread, every (seed, policy) is kept in
``OUTPUT/seed-N/POLICY/result.json``, so a killed study continues. About 15 to 60 CPU seconds a result.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from mining_study_steps import LoopSteps, Trained  # noqa: E402
from mining_study_table import summarise  # noqa: E402

from deft_aoi.analysis import dataset  # noqa: E402
from deft_aoi.analysis.identity import Part  # noqa: E402
from deft_aoi.contract import spec as specs  # noqa: E402
from deft_aoi.contract.changenet_csv import read_changenet_csv  # noqa: E402
from deft_aoi.contract.files import atomic_write_json, read_json  # noqa: E402
from deft_aoi.contract.paths import Workspace  # noqa: E402
from deft_aoi.contract.text import PASS  # noqa: E402
from deft_aoi.mining import pool, select  # noqa: E402
from deft_aoi.mining.settings import MiningConfig  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

POLICIES = {
    "none": "nothing added: the same fine-tuning on the base rows alone",
    "knn": "k-NN by pair feature (what the loop does)",
    "random_mix": "random, with k-NN's label mix",
    "random": "random",
    "knn_no_sdg": "k-NN by pair feature, real rows only, same budget",
    "knn_minus_sdg": "k-NN's own real rows, its synthetic ones left out",
    "pixels": "k-NN by appearance (16 x 16 pixels)",
    "knn_cut_80": "k-NN by pair feature, min_similarity 0.8, own budget",
    "knn_quota": "k-NN, at most one neighbour of a label a target",
    "knn_diverse": "k-NN, farthest first among neighbours within 0.05 of the nearest",
    "knn_hard_pass": "k-NN, false alarms search among good rows only",
    "all": "all of the pool",
    "baseline_2": "2nd iteration after k-NN, encoder `baseline`",
    "latest_2": "2nd iteration after k-NN, encoder `latest`",
}
CUT = 0.8
OPTIONS: dict[str, dict[str, Any]] = {
    "knn_quota": {"quota_per_label": 1},
    "knn_diverse": {"diversity_margin": 0.05},
    "knn_hard_pass": {"hard_pass": True},
}
SIMILARITY_BINS = (-1.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)
MAX_TOP_K = 400
STREAMS = {"random": 8, "random_mix": 9}  # of random numbers, so that a policy's rows do not hang on the list of policies


class Study(LoopSteps):
    """One seed of the study: who picks the rows."""

    def nearest(
        self,
        model: Trained,
        encoder: Path | None,
        *,
        budget: int | None = None,
        cut: float | None = None,
        real: bool = False,
        options: dict[str, Any] | None = None,
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
                samples,
                store.matrix(samples["content_id"].tolist()),
                rows,
                store,
                config=MiningConfig(top_k=top_k, min_similarity=cut, search_eligible=True, **(options or {})),
                encoder=store.encoder.name,
                exclusions=self.exclusions(model.rows),
            )
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
        rng = np.random.default_rng([self.seed, STREAMS.get(policy, 0)])
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
        if policy == "knn_cut_80":
            return self.nearest(base, base.checkpoint, cut=CUT)
        if policy in OPTIONS:
            return self.nearest(base, base.checkpoint, budget=budget, options=OPTIONS[policy])
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
            for name, split in self.ctx.splits.items()
            if name != "train"
        ]
        dataset.validate(frame, layout=layout, index=self.index, against=against, previous=previous, provenance=lineage)
        trained = self.train(policy, self.index.part(policy, frame, layout), self.root, start.checkpoint)
        lineage.astype(str).to_csv(self.out / policy / "provenance.csv", index=False)
        real, bad = (added["provenance"] == "real").to_numpy(), (added["label"] != PASS).to_numpy()
        trained.result["added"] = {
            "rows": len(added),
            "real": int(real.sum()),
            "sdg": int((~real).sum()),
            "real_defects": int((real & bad).sum()),
            "labels": {str(k): int(v) for k, v in sorted(added["label"].value_counts().items())},
        }
        trained.result["facts"] = facts
        return trained


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
        if policy == "none":
            made = study.train("none", base.rows, study.root, base.checkpoint)
        elif policy.endswith("_2"):
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
    parser.add_argument("--only-seed", type=int, metavar="N", help="one seed; gather the seed-N folders for --table")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--table", action="store_true", help="run nothing, print what is there")
    args = parser.parse_args(argv)

    out = args.output.resolve()
    if not args.table:
        source = args.workspace or (Path(os.environ["DEFT_DEEPPCB"]) / "workspace" if "DEFT_DEEPPCB" in os.environ else None)
        if source is None:
            parser.error("--workspace, or DEFT_DEEPPCB in the environment, says where the data is")
        if not (out / "workspace").exists():
            shutil.copytree(source, out / "workspace.part", copy_function=shutil.copyfile, dirs_exist_ok=True)
            (out / "workspace.part").rename(out / "workspace")
        for seed in range(1, args.seeds + 1) if args.only_seed is None else [args.only_seed]:
            run_seed(Study(Workspace(out / "workspace"), out, seed), args.policies)
    print(summarise(out, POLICIES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
