"""Specs against TAO's tree and rules: what TAO itself accepted passes, what it refuses is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import HardStop
from deft_aoi.engines.tao_schema import KNOWN_VERSIONS, check_tao_spec, is_known, parse_version
from deft_aoi.engines.tao_tree import leaves

BASELINE = Path(__file__).resolve().parents[2] / "specs" / "baseline_spec.yaml"


@pytest.fixture
def baseline() -> dict:
    return specs.load_spec(BASELINE)


@pytest.mark.parametrize("version", KNOWN_VERSIONS)
def test_the_shipped_baseline_spec_is_valid_as_it_stands(baseline, version):
    check_tao_spec(baseline, version, {"train": 200, "validation": 100, "infer": 580})


@pytest.mark.parametrize("name", ["fan_tiny.yaml", "c_radio_v2_b.yaml"])
@pytest.mark.parametrize("version", KNOWN_VERSIONS)
def test_specs_that_real_tao_ran_are_accepted(tao_fixtures, tmp_path, name, version):
    text = (tao_fixtures / "tao_specs" / name).read_text().replace("@WS@", "/ws").replace("@R@", "/r")
    (tmp_path / name).write_text(text)
    check_tao_spec(specs.load_spec(tmp_path / name), version, {"train": 200})


def test_the_merged_specs_of_real_runs_hold_no_unknown_key(tao_fixtures):
    found = sorted(tao_fixtures.glob("tao_runs*/**/experiment.yaml"))
    assert len(found) > 8
    for path in found:
        version = "7.3.0" if "tao_runs_730" in path.parts else "7.0.1"
        spec = specs.load_spec(path)
        for key in _leaf_keys(spec):
            assert is_known(key, version), (path, key)


def test_the_tree_is_tao_s_own_dump_leaf_by_leaf(tao_fixtures):
    dumped = set(_leaf_keys(specs.load_spec(tao_fixtures / "tao_specs" / "defaults_7.3.0.yaml")))
    known = {"model.decode_head.decoder_params.embed_dim" if k == "model.decode_head.decoder_params" else k for k in leaves()}
    assert dumped == known


def test_the_tree_of_7_0_1_is_what_7_0_1_itself_dumped(tao_fixtures):
    dumps = sorted((tao_fixtures / "tao_runs").glob("*/results/*/experiment.yaml"))
    assert len(dumps) == 6
    old = {k for k in leaves() if is_known(k, "7.0.1")}
    assert {k for k in leaves() if k not in old} == {k for k in leaves() if k.startswith("train.checkpointer.")}
    for path in dumps:
        keys = _leaf_keys(specs.load_spec(path))
        assert {k.removesuffix(".embed_dim") for k in keys} == old


def _leaf_keys(node: dict, prefix: str = "") -> list[str]:
    keys = []
    for key, value in node.items():
        dotted = f"{prefix}{key}"
        kind = leaves()[dotted].kind if dotted in leaves() else ""
        if isinstance(value, dict) and value and not (kind and dotted != "model.decode_head.decoder_params"):
            keys += _leaf_keys(value, dotted + ".")
        else:
            keys.append(dotted)
    return keys


# (override, part of the message or of what is expected)
BROKEN = [
    ("train.num_epoch=3", "train.num_epochs"),
    ("model.backbone.typo=1", "model.backbone.typo"),
    ("nonsense=1", "nonsense"),
    ("train.num_epochs=many", "train.num_epochs"),
    ("train.gpu_ids=[a]", "train.gpu_ids"),
    ("model.backbone.freeze_backbone=[1]", "freeze_backbone"),
    ("train.validation_interval=null", "validation_interval"),
    ("train.checkpoint_interval=200", "train.checkpoint_interval"),
    ("train.validation_interval=21", "train.validation_interval"),
    ("train.classify.loss=contrastive", "train.classify.loss"),
    ("model.classify.difference_module=euclidean", "train.classify.loss"),
    ("model.decode_head.feature_strides=[4, 8, 16, 16]", "feature_strides"),
    ("model.backbone.type=fan_tiny_8_p4_hybrid", "feature_strides"),
    ("model.backbone.type=c_radio_v4", "model.backbone.type"),
    ("dataset.classify.image_width=256", "224 x 224"),
    ("dataset.classify.num_input=8", "num_input"),
    ("dataset.classify.concat_type=zig", "concat_type"),
    ("dataset.classify.image_ext=jpg", "image_ext"),
    ("dataset.classify.num_golden=2", "num_golden"),
    ("dataset.classify.batch_size=1", "batch_size"),
    ("train.classify.cls_weight=[1.0]", "cls_weight"),
    ("inference.num_gpus=4", "inference.num_gpus"),
    ("task=segment", "task"),
    ("model.backbone.pretrained_backbone_path=https://x/y.safetensors", "a local file"),
    ("model.backbone.pretrained_backbone_path=/x/y.bin", ".safetensors"),
    ("train.pretrained_model_path=${results_dir}/x.pth", "pretrained_model_path"),
]


@pytest.mark.parametrize(("override", "named"), BROKEN)
def test_a_broken_spec_is_refused_by_the_key_s_name(baseline, override, named):
    with pytest.raises(HardStop) as caught:
        check_tao_spec(specs.apply_overrides(baseline, [override]), "7.3.0")
    assert named in caught.value.render()
    assert caught.value.exit_code == 3


def test_a_frozen_backbone_needs_weights(baseline):
    spec = specs.apply_overrides(baseline, ["model.backbone.freeze_backbone=true"])
    check_tao_spec(spec, "7.3.0")
    specs.put(spec, "model.backbone.pretrained_backbone_path", None)
    with pytest.raises(HardStop, match="freeze_backbone"):
        check_tao_spec(spec, "7.3.0")


def test_checkpointer_keys_are_gated_by_version(baseline):
    spec = specs.apply_overrides(baseline, ["train.checkpointer.enable_topk=true"])
    check_tao_spec(spec, "7.3.0")
    check_tao_spec(spec, "7.1.0-pyt")
    with pytest.raises(HardStop, match=r"train\.checkpointer"):
        check_tao_spec(spec, "7.0.1")


@pytest.mark.parametrize("split", ["train", "validation", "test", "infer", "holdout"])
def test_every_split_needs_a_whole_batch(baseline, split):
    rows = {"train": 200, "validation": 100, "infer": 580} | {split: 15}
    with pytest.raises(HardStop, match="batch_size") as caught:
        check_tao_spec(baseline, "7.3.0", rows)
    assert f"the {split} set has 15 rows" in caught.value.expected
    check_tao_spec(specs.apply_overrides(baseline, ["dataset.classify.batch_size=15"]), "7.3.0", rows)


def test_training_on_several_gpus_multiplies_the_batch(baseline):
    spec = specs.apply_overrides(baseline, ["train.num_gpus=4"])
    check_tao_spec(spec, "7.3.0", {"train": 64, "infer": 16})
    with pytest.raises(HardStop, match="batch_size"):
        check_tao_spec(spec, "7.3.0", {"train": 63})


@pytest.mark.parametrize(
    ("lights", "overrides", "is_valid"),
    [
        (4, ["concat_type=grid", "grid_map={x: 2, y: 2}", "image_width=112", "image_height=112"], True),
        (4, ["concat_type=grid", "grid_map={x: 2, y: 3}", "image_width=112", "image_height=112"], False),
        (4, ["concat_type=linear", "image_width=112", "image_height=112"], False),
        (3, ["concat_type=grid", "grid_map={x: 2, y: 2}", "image_width=112", "image_height=112"], False),
        (1, ["concat_type=grid"], True),
    ],
)
def test_lights_must_fit_the_grid_and_the_size(baseline, lights, overrides, is_valid):
    names = "{" + ", ".join(f"L{i}: {i}" for i in range(lights)) + "}"
    specs.drop(baseline, "dataset.classify.input_map")
    spec = specs.apply_overrides(
        baseline, [f"dataset.classify.{o}" for o in [f"input_map={names}", f"num_input={lights}", *overrides]]
    )
    if is_valid:
        check_tao_spec(spec, "7.3.0")
    else:
        with pytest.raises(HardStop):
            check_tao_spec(spec, "7.3.0")


def test_an_old_or_odd_version_is_refused():
    assert parse_version("7.1.0-data-services") == (7, 1, 0)
    for text in ("5.5.0", "latest", ""):
        with pytest.raises(HardStop):
            parse_version(text)
