"""TAO 7.3.0's VisualChangeNet spec as types: the branches that the embedded engine reads.

Field order and defaults equal TAO's own dump; the branches that are accepted and not used are in ``config_inherited``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from deft_aoi.engines.embedded import config_inherited as inherited


@dataclass
class Backbone:
    """``model.backbone``; ``type`` must be ``embedded_siamese`` for this engine."""

    type: str = "fan_small_12_p4_hybrid"
    feat_downsample: bool = False
    pretrained_backbone_path: str | None = None
    freeze_backbone: bool = False


@dataclass
class DecoderParams:
    """``model.decode_head.decoder_params`` (TAO's decoder; unused here)."""

    embed_dim: int = 256


@dataclass
class DecodeHead:
    """``model.decode_head`` (TAO's decoder; unused here)."""

    in_channels: list[int] = field(default_factory=lambda: [128, 256, 384, 384])
    in_index: list[int] = field(default_factory=lambda: [0, 1, 2, 3])
    feature_strides: list[int] = field(default_factory=lambda: [4, 8, 16, 16])
    align_corners: bool = False
    decoder_params: DecoderParams = field(default_factory=DecoderParams)
    use_summary_token: bool = False


@dataclass
class ClassifyModel:
    """``model.classify``: head width (``embed_dec``), distance size (``embedding_vectors``), margins."""

    train_margin_euclid: float = 2.0
    eval_margin: float = 2.0
    embedding_vectors: int = 5
    embed_dec: int = 5
    learnable_difference_modules: int = 4
    difference_module: str = "euclidean"


@dataclass
class Model:
    """``model``."""

    backbone: Backbone = field(default_factory=Backbone)
    decode_head: DecodeHead = field(default_factory=DecodeHead)
    classify: ClassifyModel = field(default_factory=ClassifyModel)
    precise_msda: bool = False


@dataclass
class CsvSource:
    """One split: its ChangeNet CSV and the folder that its paths are relative to."""

    csv_path: str = ""
    images_dir: str = ""


@dataclass
class Augmentation:
    """``dataset.classify.augmentation_config``; applied in training only, and only if ``augment``."""

    rgb_input_mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    rgb_input_std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    random_flip: inherited.RandomFlip = field(default_factory=inherited.RandomFlip)
    random_rotate: inherited.RandomRotate = field(default_factory=inherited.RandomRotate)
    random_color: inherited.RandomColor = field(default_factory=inherited.RandomColor)
    with_scale_random_crop: inherited.ScaleRandomCrop = field(default_factory=inherited.ScaleRandomCrop)
    with_random_blur: bool = True
    with_random_crop: bool = True
    augment: bool = False


@dataclass
class ClassifyData:
    """``dataset.classify``."""

    train_dataset: CsvSource = field(default_factory=CsvSource)
    validation_dataset: CsvSource = field(default_factory=CsvSource)
    test_dataset: CsvSource = field(default_factory=CsvSource)
    infer_dataset: CsvSource = field(default_factory=CsvSource)
    image_ext: str | None = None
    batch_size: int = 8
    workers: int = 8
    fpratio_sampling: float = 0.1
    num_input: int = 8
    input_map: dict[str, int] | None = None
    grid_map: dict[str, int] | None = None
    concat_type: str | None = None
    image_width: int = 224
    image_height: int = 224
    augmentation_config: Augmentation = field(default_factory=Augmentation)
    num_classes: int = 2
    num_golden: int = 1
    quant_calibration_dataset: inherited.CalibrationData = field(default_factory=inherited.CalibrationData)


@dataclass
class Dataset:
    """``dataset``."""

    segment: inherited.SegmentData = field(default_factory=inherited.SegmentData)
    classify: ClassifyData = field(default_factory=ClassifyData)


@dataclass
class Cudnn:
    """``train.cudnn``."""

    benchmark: bool = False
    deterministic: bool = True


@dataclass
class Checkpointer:
    """``train.checkpointer`` (7.1.0 and later); this engine keeps every periodic checkpoint instead."""

    enable_topk: bool = False
    replace_periodic: bool = False
    monitor: str | None = None
    mode: str | None = None
    save_top_k: int = 1
    filename: str = "model_best_{epoch:03d}"
    dirpath: str | None = None
    auto_insert_metric_name: bool = False


@dataclass
class Optim:
    """``train.optim``; ``policy`` is ``linear`` (to zero, per epoch) or ``step`` (x0.1 every third of the epochs)."""

    monitor_name: str = "val_loss"
    optim: str = "adamw"
    lr: float = 0.0001
    policy: str = "linear"
    momentum: float = 0.9
    weight_decay: float = 0.01


@dataclass
class ClassifyTrain:
    """``train.classify``: ``ce`` goes with ``learnable``, ``contrastive`` with ``euclidean``."""

    loss: str = "contrastive"
    cls_weight: list[float] = field(default_factory=lambda: [1.0, 10.0])


@dataclass
class Tensorboard:
    """``train.tensorboard`` (not written by this engine)."""

    enabled: bool = False
    infrequent_logging_frequency: int = 2


@dataclass
class Train:
    """``train``."""

    num_gpus: int = 1
    gpu_ids: list[int] = field(default_factory=lambda: [0])
    num_nodes: int = 1
    seed: int = 1234
    cudnn: Cudnn = field(default_factory=Cudnn)
    num_epochs: int = 10
    checkpoint_interval: int = 1
    checkpoint_interval_unit: str = "epoch"
    validation_interval: int = 1
    resume_training_checkpoint_path: str | None = None
    results_dir: str | None = None
    checkpointer: Checkpointer = field(default_factory=Checkpointer)
    optim: Optim = field(default_factory=Optim)
    pretrained_model_path: str | None = None
    classify: ClassifyTrain = field(default_factory=ClassifyTrain)
    segment: inherited.SegmentTrain = field(default_factory=inherited.SegmentTrain)
    tensorboard: Tensorboard = field(default_factory=Tensorboard)
    precision: str = "32-true"
    sync_batchnorm: bool = False
    use_distributed_sampler: bool = False


@dataclass
class Scoring:
    """``evaluate`` and ``inference``; as in TAO, ``dataset.classify.batch_size`` rules, not this ``batch_size``."""

    num_gpus: int = 1
    gpu_ids: list[int] = field(default_factory=lambda: [0])
    num_nodes: int = 1
    checkpoint: str = MISSING
    trt_engine: str | None = None
    results_dir: str | None = None
    batch_size: int = -1
    vis_after_n_batches: int = 16


@dataclass
class Experiment:
    """The whole spec."""

    model_name: str | None = None
    encryption_key: str | None = None
    results_dir: str = ""
    wandb: inherited.WandB = field(default_factory=inherited.WandB)
    model: Model = field(default_factory=Model)
    dataset: Dataset = field(default_factory=Dataset)
    train: Train = field(default_factory=Train)
    evaluate: Scoring = field(default_factory=Scoring)
    inference: Scoring = field(default_factory=Scoring)
    export: inherited.Export = field(default_factory=inherited.Export)
    gen_trt_engine: inherited.GenTrtEngine = field(default_factory=inherited.GenTrtEngine)
    quantize: inherited.Quantize = field(default_factory=inherited.Quantize)
    task: str = "segment"
