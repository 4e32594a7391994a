"""The siamese: one trunk for test and golden, their feature difference at several scales, pooled over the image.

    trunk (shared)   3 -> 16 -> 32 -> 48 channels at 1/2, 1/4, 1/8 of the size
    difference       at each scale: what the test has beyond the range of the golden's 3x3 neighbourhood, in both
                     directions, so a registration shift of about one feature pixel is not a change
    fusion           differences at 1/4 of the size -> a 1x1 and a 3x3 convolution
    pooling          maximum, mean of the strongest 5 %, and mean over the image: the *pair feature*
    head             ``learnable``: two layers to two logits; ``euclidean``: length of a projection without offset

Everything before the head is convolution and pooling: any image size, any stack of lights. With several goldens the
difference at each place is to the golden that explains the test best.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn

WIDTHS = (16, 32, 48)
FUSED = 48
RIDGE = 0.3  # added to the scatter of features of unit variance: directions that good parts never show stay finite
NO_CHANGE = 1e-3  # length of a change feature (unit variance per entry) that is rounding, not a difference
TOP_SHARE = 0.05  # share of places that count as the strongest: about what a small defect covers of a 64 px crop


@dataclass(frozen=True)
class ModelConfig:
    """What rebuilds the network and its input; stored in every checkpoint."""

    difference_module: str
    scales: int
    embed_dec: int
    embedding_vectors: int
    image_width: int
    image_height: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_spec(cls, config: DictConfig) -> ModelConfig:
        """The architecture that a spec asks for."""
        classify, data = config.model.classify, config.dataset.classify
        colors = data.augmentation_config
        return cls(
            difference_module=classify.difference_module,
            # As in TAO, fewer difference modules leave out the finest levels; this trunk has three.
            scales=min(classify.learnable_difference_modules, len(WIDTHS)),
            embed_dec=classify.embed_dec,
            embedding_vectors=classify.embedding_vectors,
            image_width=data.image_width,
            image_height=data.image_height,
            mean=tuple(float(v) for v in colors.rgb_input_mean),
            std=tuple(float(v) for v in colors.rgb_input_std),
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Rebuild from a checkpoint's plain dict."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, so that a checkpoint loads with ``weights_only=True``."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def network_keys(self) -> tuple[Any, ...]:
        """What must agree for weights to fit."""
        return self.difference_module, self.scales, self.embed_dec, self.embedding_vectors


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    """Halve the size, then one more convolution at that size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def tolerant_difference(test: Tensor, golden: Tensor) -> Tensor:
    """How far the test lies outside the range of the golden's 3x3 neighbourhood.

    Args:
        test: ``(B, C, h, w)`` features.
        golden: the same shape.

    Returns:
        ``(B, 2C, h, w)``, at least 0: above the range, then below it. Zero for equal images.
    """
    highest = F.max_pool2d(golden, 3, 1, 1)
    lowest = -F.max_pool2d(-golden, 3, 1, 1)
    return F.relu(test - highest) + F.relu(lowest - test)


class SiameseNet(nn.Module):
    """Test and golden crops to two logits (``learnable``) or a distance (``euclidean``)."""

    pass_mean: Tensor
    pass_scatter: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Build with random weights from torch's global generator."""
        super().__init__()
        self.config = config
        channels = (3, *WIDTHS)
        self.trunk = nn.ModuleList(_stage(a, b) for a, b in zip(channels, channels[1:], strict=False))
        used = WIDTHS[len(WIDTHS) - config.scales :]
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * sum(used), FUSED, 1, bias=False),
            nn.BatchNorm2d(FUSED),
            nn.ReLU(),
            nn.Conv2d(FUSED, FUSED, 3, padding=1, bias=False),
            nn.BatchNorm2d(FUSED),
            nn.ReLU(),
        )
        # Standardised without scale or offset: directions of the pair feature then compare fairly by cosine.
        self.standardise = nn.BatchNorm1d(3 * FUSED, affine=False)
        # Mean and scatter of the pair feature over PASS training rows, measured when a checkpoint is written.
        self.register_buffer("pass_mean", torch.zeros(3 * FUSED))
        self.register_buffer("pass_scatter", torch.eye(3 * FUSED))
        if config.difference_module == "learnable":
            self.head: nn.Module = nn.Sequential(
                nn.Linear(3 * FUSED, config.embed_dec), nn.ReLU(), nn.Linear(config.embed_dec, 2)
            )
        else:
            self.head = nn.Linear(3 * FUSED, config.embedding_vectors, bias=False)

    @property
    def feature_size(self) -> int:
        """Length of the pair feature."""
        return 3 * FUSED

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        levels = []
        for stage in self.trunk:
            images = stage(images)
            levels.append(images)
        return levels

    def _difference(self, test: Tensor, golden: Tensor) -> Tensor:
        """Differences of one level to every golden, the smallest at each place: ``(B, 3C, h, w)``."""
        goldens = golden.shape[0] // test.shape[0]
        each = test.repeat_interleave(goldens, 0) if goldens > 1 else test
        both = torch.cat([(each - golden).abs(), tolerant_difference(each, golden)], dim=1)
        return both.reshape(test.shape[0], goldens, *both.shape[1:]).amin(1) if goldens > 1 else both

    def pooled(self, test: Tensor, goldens: Tensor) -> Tensor:
        """Pooled difference maps.

        Args:
            test: ``(B, 3, H, W)`` normalised.
            goldens: ``(B, N, 3, H, W)`` normalised.

        Returns:
            ``(B, 3 * FUSED)``: maximum, mean of the strongest, mean.
        """
        batch = test.shape[0]
        # One pass for both sides: half the calls, and batch statistics over test and golden alike.
        levels = self._pyramid(torch.cat([test, goldens.flatten(0, 1)]).contiguous(memory_format=torch.channels_last))
        maps = [self._difference(level[:batch], level[batch:]) for level in levels[-self.config.scales :]]
        size = levels[min(1, len(levels) - 1)].shape[-2:]
        maps = [
            F.adaptive_max_pool2d(m, size)
            if m.shape[-1] > size[-1]
            else F.interpolate(m, size=size, mode="nearest")
            if m.shape[-1] < size[-1]
            else m
            for m in maps
        ]
        places = self.fuse(torch.cat(maps, dim=1)).flatten(2)
        strongest = places.topk(max(1, int(TOP_SHARE * places.shape[-1])), dim=-1).values
        return torch.cat([strongest[..., 0], strongest.mean(-1), places.mean(-1)], dim=1)

    def pair_feature(self, test: Tensor, goldens: Tensor) -> Tensor:
        """What the head sees, ``(B, 3 * FUSED)``: the change between test and golden, not the scenery."""
        feature: Tensor = self.standardise(self.pooled(test, goldens))
        return feature

    def forward(self, test: Tensor, goldens: Tensor) -> Tensor:
        """Logits ``(B, 2)`` (learnable) or distances ``(B,)`` >= 0 (euclidean); higher = more defective."""
        pooled = self.pooled(test, goldens)
        feature = self.standardise(pooled)  # in both modes, so that its statistics are there for the pair feature
        if self.config.difference_module == "learnable":
            logits: Tensor = self.head(feature)
            return logits
        distances: Tensor = self.head(pooled).pow(2).sum(1).add(1e-12).sqrt()
        return distances

    @torch.no_grad()
    def note_good_parts(self, features: Tensor) -> None:
        """Keep what is usual among good parts: pair features ``(n, F)`` of PASS rows, averaged over ``views``."""
        self.pass_mean.copy_(features.mean(0))
        centred = features - self.pass_mean
        self.pass_scatter.copy_(centred.T @ centred / len(features))

    def unusual(self, features: Tensor) -> Tensor:
        """Pair features in units of the spread among good parts, from their mean: ``(B, F)`` to ``(B, F)``.

        The whitening of linear discriminant analysis: directions in which good parts differ anyway (registration,
        light) count little, directions in which they never differ count much. Computed in double precision on the CPU.
        """
        scatter = self.pass_scatter.double().cpu() + RIDGE * torch.eye(self.feature_size, dtype=torch.float64)
        whiten = torch.linalg.cholesky(torch.linalg.inv(scatter))
        unusual: Tensor = ((features - self.pass_mean).double().cpu() @ whiten).float()
        return unusual


class PairLoss(nn.Module):
    """``ce``: class-weighted cross entropy. ``contrastive``: ``mean((1-y) d^2 + y max(0, m-d)^2)``, per sample.

    TAO's contrastive loss broadcasts distances ``(B,)`` against labels ``(B, 1)`` to ``(B, B)``, which trains each
    distance against the batch's mean label. This is the formula as published (Hadsell et al., 2006); the status file says so.
    """

    weight: Tensor

    def __init__(self, config: DictConfig) -> None:
        """Read loss, class weights and margin from the spec."""
        super().__init__()
        self.contrastive = config.model.classify.difference_module == "euclidean"
        self.margin = float(config.model.classify.train_margin_euclid)
        self.register_buffer("weight", torch.tensor(list(config.train.classify.cls_weight), dtype=torch.float32))

    def forward(self, output: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a batch: ``output`` from the network, ``labels`` ``(B,)`` 0 or 1."""
        if not self.contrastive:
            return F.cross_entropy(output, labels, weight=self.weight)
        defect = labels.to(output.dtype)
        return ((1 - defect) * output.pow(2) + defect * F.relu(self.margin - output).pow(2)).mean()


def scores(output: Tensor) -> Tensor:
    """``siamese_score`` of a network output ``(B, 2)`` or ``(B,)``: probability of a defect, or the distance."""
    return output.softmax(1)[:, 1] if output.ndim == 2 else output


def normalise(pairs: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Normalise pairs ``(B, 1 + N, 3, H, W)`` in [0, 1] and split them: test ``(B, 3, H, W)``, goldens ``(B, N, 3, H, W)``."""
    mean = pairs.new_tensor(config.mean).view(3, 1, 1)
    std = pairs.new_tensor(config.std).view(3, 1, 1)
    pairs = (pairs - mean) / std
    return pairs[:, 0], pairs[:, 1:]


def views(pairs: Tensor) -> list[Tensor]:
    """The views that scores and features are averaged over: four quarter turns (two half turns if not square)."""
    turns = range(4) if pairs.shape[-1] == pairs.shape[-2] else (0, 2)
    return [torch.rot90(pairs, turn, (-2, -1)) for turn in turns]


@torch.inference_mode()
def score_pairs(model: SiameseNet, pairs: Tensor) -> Tensor:
    """``siamese_score`` ``(B,)`` of pairs ``(B, 1 + N, 3, H, W)`` in [0, 1]: outputs are averaged over ``views``."""
    outputs = [model(*normalise(view, model.config)) for view in views(pairs)]
    return scores(torch.stack(outputs).mean(0))


@torch.inference_mode()
def averaged_features(model: SiameseNet, pairs: Tensor) -> Tensor:
    """Pair features ``(B, F)`` averaged over ``views``."""
    return torch.stack([model.pair_feature(*normalise(view, model.config)) for view in views(pairs)]).mean(0)


@torch.inference_mode()
def pair_features(model: SiameseNet, pairs: Tensor) -> Tensor:
    """Embeddings ``(B, F)`` for mining, length 1: averaged pair features in units of good parts' spread.

    Two pairs are similar when they differ from good parts in the same way. On DeepPCB, with models trained on opens and
    shorts only, 98-99 % of the nearest pool rows of KPI defects are defects and 68-73 % of the same type (56-62 % without
    the whitening). A pair without any difference is the zero vector: similar to nothing, so never mined.
    """
    features = averaged_features(model, pairs)
    same = pairs[:1, 1:2].expand(1, 2, -1, -1, -1)  # any golden with itself: every difference is zero
    change = features - model.pair_feature(*normalise(same, model.config))
    changed = change.norm(dim=1, keepdim=True).cpu() > NO_CHANGE
    embedding: Tensor = F.normalize(model.unusual(features), dim=1) * changed
    return embedding
