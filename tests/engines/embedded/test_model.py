"""The network, its losses, the sampler and the augmentation, checked by what they promise."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from deft_aoi.engines.embedded.augment import augment
from deft_aoi.engines.embedded.data import DataError, PairLayout, sampling_weights
from deft_aoi.engines.embedded.model import (
    ModelConfig,
    PairLoss,
    SiameseNet,
    score_pairs,
    tolerant_difference,
)
from deft_aoi.engines.tao_tree import experiment_class


def make_model(module: str = "learnable", scales: int = 3) -> SiameseNet:
    torch.manual_seed(0)
    return SiameseNet(ModelConfig(module, scales, 16, 5, 64, 64, (0.5,) * 3, (0.2,) * 3)).eval()


def test_the_network_is_small():
    assert 50_000 < sum(p.numel() for p in make_model().parameters()) < 200_000


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (128, 64), (48, 80)])
@pytest.mark.parametrize("scales", [1, 2, 3])
def test_any_size_and_any_number_of_scales_scores(size, scales):
    pairs = torch.rand(2, 2, 3, *size)
    assert score_pairs(make_model(scales=scales), pairs).shape == (2,)


def test_scores_do_not_change_under_quarter_turns():
    pairs = torch.rand(3, 2, 3, 64, 64)
    model = make_model()
    assert torch.allclose(score_pairs(model, pairs), score_pairs(model, torch.rot90(pairs, 1, (-2, -1))), atol=1e-5)


def test_equal_images_have_distance_zero_and_a_change_has_more():
    model = make_model("euclidean")
    golden = torch.rand(1, 1, 3, 64, 64)
    same, other = torch.cat([golden, golden], 1), torch.cat([golden, torch.rand(1, 1, 3, 64, 64)], 1)
    assert float(score_pairs(model, other)) > float(score_pairs(model, same)) >= 0


def test_a_shift_of_one_place_is_tolerated():
    golden = torch.rand(1, 4, 16, 16)
    shifted = torch.roll(golden, (1, 1), (2, 3))
    inner = tolerant_difference(shifted, golden)[..., 2:-2, 2:-2]
    assert float(inner.abs().max()) == 0
    assert float(tolerant_difference(golden + 2, golden).min()) > 0


def test_more_goldens_explain_at_least_as_much():
    model = make_model()
    test, golden, other = (torch.rand(1, 1, 3, 64, 64) for _ in range(3))
    alone = model._difference(test[:, 0], golden[:, 0])
    both = model._difference(test[:, 0], torch.cat([golden, other], 1).flatten(0, 1))
    assert bool((both <= alone).all())


def test_the_contrastive_loss_is_per_sample_and_not_taos_broadcast():
    config = OmegaConf.structured(experiment_class())  # euclidean, margin 2
    loss = PairLoss(config)(torch.tensor([0.1, 1.5, 0.3, 2.5]), torch.tensor([0, 1, 0, 1]))
    assert float(loss) == pytest.approx(0.0875)  # TAO's broadcast gives 1.919


def test_class_weights_enter_the_cross_entropy():
    config = OmegaConf.structured(experiment_class())
    config.model.classify.difference_module = "learnable"
    logits, labels = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
    config.train.classify.cls_weight = [1.0, 1.0]
    even = PairLoss(config)(logits, labels)
    config.train.classify.cls_weight = [1.0, 10.0]
    assert PairLoss(config)(logits, labels) > even  # the defect is the one that is wrong


@pytest.mark.parametrize(("fpratio", "share"), [(0.1, 1 / 11), (1.0, 0.5)])
def test_the_sampler_draws_defects_at_the_asked_rate(fpratio, share):
    weights = sampling_weights(torch.tensor([0] * 90 + [1] * 10), fpratio)
    assert float(weights[90:].sum() / weights.sum()) == pytest.approx(share)
    with pytest.raises(DataError, match="PASS"):
        sampling_weights(torch.ones(4, dtype=torch.long), 1.0)
    with pytest.raises(DataError, match="defect"):
        sampling_weights(torch.zeros(4, dtype=torch.long), 1.0)


@pytest.mark.parametrize("key", ["random_flip", "random_rotate", "random_color", "with_random_blur", "with_random_crop"])
def test_each_augmentation_changes_the_pair_and_both_sides_alike(key):
    config = OmegaConf.structured(experiment_class()).dataset.classify.augmentation_config
    for name in ("random_flip", "random_rotate", "random_color"):
        config[name].enable = name == key
    config.with_random_blur, config.with_random_crop = key == "with_random_blur", key == "with_random_crop"
    config.random_color.color_probability = 0.0
    image = torch.rand(8, 1, 3, 32, 32)
    pairs = image.expand(-1, 3, -1, -1, -1)
    out = augment(pairs, config, torch.Generator().manual_seed(1))
    assert torch.allclose(out[:, 0], out[:, 1], atol=1e-6)
    assert torch.allclose(out[:, 0], out[:, 2], atol=1e-6)
    assert not torch.allclose(out, pairs)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1 + 1e-6
    assert torch.equal(out, augment(pairs, config, torch.Generator().manual_seed(1)))


def test_lights_are_put_together_as_tao_does(tmp_path):
    from pathlib import Path

    import numpy as np
    from PIL import Image

    from deft_aoi.engines.embedded.data import compose

    names = ("A", "B", "C", "D")
    for value, name in enumerate(names):
        Image.new("RGB", (8, 8), (value * 10,) * 3).save(tmp_path / f"x_{name}.png")
    linear = PairLayout(Path(tmp_path), names, ".png", 8, 8)
    stacked = compose(linear.paths("", "x"), linear)
    assert stacked.shape == linear.shape == (3, 32, 8)
    assert stacked[0, ::8, 0].tolist() == [0, 10, 20, 30]
    grid = PairLayout(Path(tmp_path), names, ".png", 8, 8, (2, 2))
    placed = compose(grid.paths("", "x"), grid)
    assert placed.shape == grid.shape == (3, 16, 16)
    assert np.array_equal(placed[0, ::8, ::8], [[0, 10], [20, 30]])
    assert PairLayout(Path(tmp_path), ("",), ".png", 8, 8).paths("d", "007") == [tmp_path / "d" / "007.png"]
