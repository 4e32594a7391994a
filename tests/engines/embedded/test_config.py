"""The spec: TAO's tree and defaults, refused keys and types, constraints before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from deft_aoi.engines.embedded.config import SpecError, load_embedding, load_experiment
from deft_aoi.engines.tao_tree import experiment_class


def leaves(tree: dict, prefix: str = "") -> dict:
    out: dict = {}
    for key, value in tree.items():
        out.update(leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value})
    return out


def test_the_default_tree_is_tao_730s_own_dump(tao_fixtures):
    dump = leaves(yaml.safe_load((tao_fixtures / "tao_specs" / "defaults_7.3.0.yaml").read_text()))
    ours = leaves(OmegaConf.to_container(OmegaConf.structured(experiment_class())))
    assert len(dump) > 190
    assert ours == dump


@pytest.mark.parametrize("name", ["fan_tiny.yaml", "c_radio_v2_b.yaml"])
def test_a_spec_written_for_tao_loads_once_its_backbone_is_ours(tao_fixtures, tmp_path, name):
    text = (tao_fixtures / "tao_specs" / name).read_text().replace("@WS@", "/ws").replace("@R@", "/r")
    (tmp_path / name).write_text(text)
    config = load_experiment(tmp_path / name, ["model.backbone.type=embedded_siamese", "train.num_epochs=60"], "train")
    assert config.dataset.classify.train_dataset.csv_path == "/ws/train/base/training_set.csv"
    with pytest.raises(SpecError, match="embedded_siamese"):
        load_experiment(tmp_path / name, [], "train")


def test_shipped_defaults_lie_between_tao_and_the_spec(tiny):
    config = load_experiment(tiny.write_spec(), [], "train")
    bare = load_experiment(
        tiny.write_spec(), ["task=classify", "model.classify.difference_module=learnable"], "train", shipped=None
    )
    assert bare.train.optim.lr == 1e-4
    assert config.train.optim.lr != bare.train.optim.lr
    assert config.train.num_epochs == 2  # the spec's
    assert load_experiment(tiny.write_spec(), ["train.num_epochs=5"], "train").train.num_epochs == 5


def test_results_dir_is_the_tasks_own_folder(tiny):
    spec = tiny.write_spec()
    assert load_experiment(spec, ["results_dir=/r"], "train").results_dir == "/r/train"
    assert load_experiment(spec, ["results_dir=/r", "train.results_dir=/x"], "train").results_dir == "/x"
    with pytest.raises(SpecError, match="results_dir"):
        load_experiment(spec, ["results_dir="], "train")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.nub_epochs=3", "nub_epochs"),
        ("train.num_epochs=three", "three"),
        ("train.checkpoint_interval=9", "checkpoint_interval"),
        ("train.validation_interval=9", "validation_interval"),
        ("train.classify.cls_weight=[1.0]", "cls_weight"),
        ("train.optim.policy=cosine", "policy"),
        ("train.precision=16-mixed", "precision"),
        ("train.checkpointer.enable_topk=true", "enable_topk"),
        ("model.backbone.freeze_backbone=true", "pretrained_model_path"),
        ("model.backbone.pretrained_backbone_path=/x.pth", "pretrained_backbone_path"),
        ("model.classify.difference_module=other", "difference_module"),
        ("model.classify.learnable_difference_modules=5", "learnable_difference_modules"),
        ("dataset.classify.concat_type=zig", "concat_type"),
        ("dataset.classify.fpratio_sampling=0", "fpratio_sampling"),
        ("dataset.classify.image_ext=null", "image_ext"),
        ("dataset.classify.num_classes=3", "num_classes"),
        ("task=segment", "task"),
        ("nonsense", "key=value"),
    ],
)
def test_a_wrong_spec_is_one_line_exit_1_and_writes_nothing(tiny, engine, override, named):
    code, error = engine.call("visual_changenet", "train", "-e", tiny.write_spec(), override)
    assert code == 1
    assert named in error.splitlines()[0]
    assert error.startswith("ERROR: ")
    assert not (tiny.root / "results").exists()


def test_grid_must_hold_all_lights(tiny):
    spec = tiny.write_spec(input_map={"A": 0, "B": 1}, concat_type="grid", grid_map={"x": 2, "y": 2})
    with pytest.raises(SpecError, match="2 lights"):
        load_experiment(spec, [], "train")


def test_mandatory_values_are_named(tiny, tmp_path):
    with pytest.raises(SpecError, match=r"inference\.checkpoint"):
        load_experiment(tiny.write_spec(), [], "inference")
    (tmp_path / "e.yaml").write_text("model: SigLIP\ninput_parquet: a\noutput_parquet: b\nmodel_path: c\n")
    with pytest.raises(SpecError, match="pair_feature"):
        load_embedding(tmp_path / "e.yaml", [])
    (tmp_path / "f.yaml").write_text("model: pair_feature\n")
    with pytest.raises(SpecError, match="input_parquet"):
        load_embedding(tmp_path / "f.yaml", [])


def test_a_missing_or_broken_spec_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml"):
        load_experiment(tmp_path / "absent.yaml", [], "train")
    for text in ("- a\n- b\n", "a: [1,\n"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(SpecError):
            load_experiment(Path(tmp_path / "bad.yaml"), [], "train")


def test_an_unknown_subtask_is_a_usage_error(engine):
    with pytest.raises(SystemExit) as stop:
        engine.call("visual_changenet", "quantize", "-e", "x.yaml")
    assert stop.value.code == 2
