"""What a run can be told, with defaults and the source of every value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deft_aoi.analysis.constants import MIN_RECALL_SUPPORT, SCORE_NOISE, SECONDS_PER_CALL
from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.kpi_target import DEFAULT_TARGET, KpiTarget, parse_kpi_target
from deft_aoi.mining.settings import HARD_ROWS, MINING

if TYPE_CHECKING:
    from deft_aoi.analysis.judging import JudgingRules
    from deft_aoi.analysis.metric import MetricPlan
    from deft_aoi.analysis.registered_goldens import Preprocessing

ENGINES = ("embedded", "tao")
PLATFORMS = ("local", "docker", "slurm", "kubernetes")
ENCODERS = ("pair_feature", "siglip", "difference", "pixels")

DEFAULTS: dict[str, Any] = {
    "kpi_target": DEFAULT_TARGET,
    "max_iterations": 3,
    "top_k_per_target": 5,
    "top_k_per_label": 50,
    "metric": "cosine",
    "encoder_checkpoint": "baseline",
    "mining": "knn",
    "hard_rows": HARD_ROWS,
    "seed": 1234,
    "automl_policy": "off",
    "air_gapped": False,
    "allow_near_duplicates": False,
    "num_gpus": 1,
    "seconds_per_call": SECONDS_PER_CALL,
    "threshold_rule": "low_end",
    "score_noise": SCORE_NOISE,
    "min_recall_support_pct": 100 * MIN_RECALL_SUPPORT,
    "stop_rule": "cross_validated",
    "registration": "auto",
}
STOP_RULES = ("cross_validated", "point")
MAX_SHIFT_PX = 64
DEFAULT_EPOCHS = 20


@dataclass(frozen=True)
class Setting:
    """One value and where it came from: ``user``, ``spec``, ``engine`` or ``default``."""

    value: Any
    source: str


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run does. Part of the plan's digest.

    Attributes:
        values: name → value; see ``DEFAULTS`` for the names beside ``engine``, ``platform``, ``encoder``,
            ``min_similarity`` (``None`` = no cut), ``training_epochs``, ``max_new_escapes`` (``None`` = as many as are newly
            caught), ``overrides`` (spec overrides) and ``platform_options``.
        sources: name → source.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        """Values read as attributes."""
        try:
            return self.values[name]
        except KeyError as error:
            raise AttributeError(name) from error

    @property
    def primary_metric(self) -> MetricPlan | None:
        """The user's own primary metric; ``None`` when the KPI target decides."""
        from deft_aoi.analysis.metric import parse_metric_plan

        body = self.values.get("metric_plan")
        return None if body is None else parse_metric_plan(body)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How goldens are registered; ``None`` where they stay (also in a plan from before there was a choice)."""
        from deft_aoi.analysis.registered_goldens import Preprocessing

        body = self.values.get("registration")
        return Preprocessing.read(body) if isinstance(body, dict) else None

    @property
    def target(self) -> KpiTarget:
        """The parsed KPI target."""
        return parse_kpi_target(self.values["kpi_target"])

    @property
    def judging(self) -> JudgingRules:
        """How the KPI set and the hold-out are judged."""
        from deft_aoi.analysis.judging import JudgingRules
        from deft_aoi.analysis.operating_point import parse_threshold_rule

        plan, said = self.primary_metric, {**DEFAULTS, **self.values}
        far = plan is None or any(plan.is_builtin(c) and c.name == "far_fraction" for c in plan.criteria)
        rule = parse_threshold_rule(said["threshold_rule"], said["score_noise"])
        return JudgingRules(rule, said["min_recall_support_pct"] / 100, far)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dict(self.values)


def _positive(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{name} must be a whole number from {low} to {high}, got {value}")
    return value


def _registration(said: Any) -> str | int:
    """``auto``, ``off``, or the largest shift in pixels of the network's picture."""
    text = str(said)
    if text in ("auto", "off"):
        return text
    if not text.isdigit() or not 1 <= int(text) <= MAX_SHIFT_PX:
        raise UsageError(
            "--registration cannot be read",
            expected=f"auto, off, or the largest shift in pixels, 1 to {MAX_SHIFT_PX}",
            found=text[:40],
        )
    return int(text)


def _check_judging(values: Mapping[str, Any]) -> None:
    from deft_aoi.analysis.operating_point import parse_threshold_rule

    parse_threshold_rule(values["threshold_rule"], values["score_noise"])
    if not 0 < values["min_recall_support_pct"] < 100:
        raise UsageError(
            "--min-recall-support must be a percent between 0 and 100",
            expected="for example 99: no number of defects supports a recall of 100 %",
            found=f"{values['min_recall_support_pct']:g}",
        )
    if values["stop_rule"] not in STOP_RULES:
        raise UsageError(f"unknown stop rule {values['stop_rule']}", expected=" or ".join(STOP_RULES))


def resolve(given: Mapping[str, Any], user_spec: specs.Spec) -> RunConfig:
    """Settle every value: the user's, else the spec's, else the default.

    Args:
        given: what the user said; absent or ``None`` means not said. ``min_similarity`` may be the text ``none``.
        user_spec: the workspace's own spec.

    Raises:
        UsageError: a value out of range, or an unknown engine, platform or encoder.
    """
    settings: dict[str, Setting] = {}

    def settle(name: str, fallback: Any, source: str = "default") -> Any:
        said = given.get(name)
        settings[name] = Setting(said, "user") if said is not None else Setting(fallback, source)
        return settings[name].value

    for name, value in DEFAULTS.items():
        settle(name, value)
    settings["kpi_target"] = Setting(parse_kpi_target(settings["kpi_target"].value).text, settings["kpi_target"].source)
    settings["registration"] = Setting(_registration(settings["registration"].value), settings["registration"].source)
    _check_judging({name: settings[name].value for name in DEFAULTS})
    engine = settle("engine", specs.engine_for(user_spec), "spec")
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine}", expected=" or ".join(ENGINES))
    platform = settle("platform", "local" if engine == "embedded" else "docker")
    if platform not in PLATFORMS:
        raise UsageError(
            f"unknown platform {platform}",
            expected=", ".join(PLATFORMS),
            hint="Brev and Lepton are not supported: run on the box itself with --platform docker",
        )
    if settings["mining"].value not in MINING:
        raise UsageError(f"unknown mining {settings['mining'].value}", expected=", ".join(MINING))
    encoder = settle("encoder", "pair_feature" if engine == "embedded" else "siglip")
    if encoder not in ENCODERS:
        raise UsageError(f"unknown encoder {encoder}", expected=" or ".join(ENCODERS))
    if encoder == "pair_feature" and engine == "tao":
        raise UsageError(
            "pair_feature is the embedded engine's encoder",
            expected="--encoder siglip, difference or pixels with --engine tao",
            found="engine tao",
        )
    from deft_aoi.mining import settings as mining_settings

    said = given.get("min_similarity")
    if isinstance(said, str):
        try:
            said = None if said.lower() in ("none", "null") else float(said)
        except ValueError as error:
            raise UsageError("min_similarity must be a number from -1 to 1 or none", found=said) from error
        settings["min_similarity"] = Setting(said, "user")
    else:
        fallback = Setting(mining_settings.default_min_similarity(encoder), "default")
        settings["min_similarity"] = fallback if said is None else Setting(float(said), "user")
    similarity = settings["min_similarity"].value
    if similarity is not None and not -1 <= similarity <= 1:
        raise UsageError(f"min_similarity must be a number from -1 to 1 or none, got {similarity}")
    epochs = specs.get(user_spec, "train.num_epochs")
    if epochs is not None:
        settle("training_epochs", epochs, "spec")
    else:
        settle("training_epochs", engine_epochs(engine), "engine" if engine == "embedded" else "default")
    settle("overrides", [])
    settle("defect_labels", [])
    settle("platform_options", {})
    settle("tao_version", "7.1.0" if engine == "tao" else None)
    if given.get("metric_plan") is not None:
        from deft_aoi.analysis.metric import with_target

        body, kpi = given["metric_plan"], settings["kpi_target"]
        asked = with_target(body, parse_kpi_target(kpi.value)) if kpi.source == "user" else body
        settings["metric_plan"] = Setting(asked, "user")
    settle("model_path", None)
    settle("continue_from", None)
    if settle("max_new_escapes", None) is not None:
        _positive("max_new_escapes", settings["max_new_escapes"].value, 0, 1_000_000)
    if settle("queue_limit", None) is not None:
        _positive("queue_limit", settings["queue_limit"].value, 1, 100_000)
    ids = settle("gpu_ids", None)
    if ids:
        if given.get("num_gpus") not in (None, len(ids)) or len(set(ids)) != len(ids):
            raise UsageError(
                "--gpu-ids and --num-gpus do not agree",
                expected="each id once, as many as --num-gpus says",
                found=f"ids {ids}, {given.get('num_gpus') or 'no'} GPUs",
            )
        settings["num_gpus"] = Setting(len(ids), "user")
    for name, low, high in (
        ("max_iterations", 1, 100),
        ("hard_rows", 2, 100_000),
        ("top_k_per_target", 1, 1000),
        ("top_k_per_label", 1, 100_000),
        ("training_epochs", 1, 100_000),
        ("seed", 0, 2**31 - 1),
        ("num_gpus", 1, 64),
    ):
        _positive(name, settings[name].value, low, high)
    return RunConfig({k: s.value for k, s in settings.items()}, {k: s.source for k, s in settings.items()})


def engine_epochs(engine: str) -> int:
    """``train.num_epochs`` of the engine's shipped spec for the embedded engine, else 20."""
    if engine == "embedded":
        return int(specs.get(shipped_spec(engine), "train.num_epochs", DEFAULT_EPOCHS))
    return DEFAULT_EPOCHS


def shipped_spec(engine: str) -> specs.Spec:
    """The spec that ships with the engine."""
    from deft_aoi.contract.schema import bundle_root

    name = "embedded_spec.yaml" if engine == "embedded" else "baseline_spec.yaml"
    return specs.load_spec(bundle_root() / "specs" / name, what="engine's shipped spec")


def effective_spec(user_spec: specs.Spec, config: RunConfig) -> specs.Spec:
    """The spec that derived specs start from.

    The embedded engine's shipped spec lies under the workspace's. NVIDIA's networks differ in what their keys mean
    (``feature_strides`` of C-RADIO break FAN), so the shipped TAO spec is used only for the backbone it was written for.
    """
    base = shipped_spec(config.engine)
    if config.engine == "tao" and specs.backbone_type(user_spec) != specs.backbone_type(base):
        base = {}
    spec = specs.merge(base, user_spec)
    if config.engine == "embedded":
        specs.put(spec, "model.backbone.type", specs.EMBEDDED_BACKBONE)
    return specs.apply_overrides(spec, tuple(config.overrides))
