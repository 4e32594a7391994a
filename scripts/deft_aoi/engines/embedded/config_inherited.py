"""The branches of TAO's 7.3.0 spec tree that the embedded engine accepts and does not use.

A spec written for TAO must load here unchanged and a misspelt key must be refused here as TAO refuses it, so the whole
tree exists as types. Defaults equal TAO's own dump; a test compares them leaf by leaf.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


def _floats(*values: float) -> Any:
    """A dataclass field whose default is a fresh list of these floats."""
    return field(default_factory=lambda: [float(v) for v in values])


@dataclass
class WandB:
    """``wandb``: experiment tracking, never contacted by this engine."""

    enable: bool = True
    project: str | None = "TAO Toolkit"
    entity: str | None = ""
    group: str | None = ""
    tags: list[str] = field(default_factory=lambda: ["training", "tao-toolkit"])
    reinit: bool = False
    sync_tensorboard: bool = False
    save_code: bool = False
    name: str | None = "TAO Toolkit training experiment"
    run_id: str | None = ""


@dataclass
class RandomFlip:
    """``random_flip``: probabilities of a vertical and a horizontal mirror image."""

    vflip_probability: float = 0.5
    hflip_probability: float = 0.5
    enable: bool = True


@dataclass
class RandomRotate:
    """``random_rotate``: one of the angles (degrees), with this probability."""

    rotate_probability: float = 0.5
    angle_list: list[float] = _floats(90, 180, 270)
    enable: bool = True


@dataclass
class RandomColor:
    """``random_color``: jitter strengths as torchvision's ColorJitter takes them."""

    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.3
    enable: bool = True
    color_probability: float = 0.5


@dataclass
class ScaleRandomCrop:
    """``with_scale_random_crop``: read by the segmentation task only."""

    scale_range: list[float] = _floats(1.0, 1.2)
    enable: bool = True


@dataclass
class SegmentAugmentation:
    """``dataset.segment.augmentation``."""

    random_flip: RandomFlip = field(default_factory=RandomFlip)
    random_rotate: RandomRotate = field(default_factory=RandomRotate)
    random_color: RandomColor = field(default_factory=RandomColor)
    with_scale_random_crop: ScaleRandomCrop = field(default_factory=ScaleRandomCrop)
    with_random_blur: bool = True
    with_random_crop: bool = True
    mean: list[float] = _floats(0.5, 0.5, 0.5)
    std: list[float] = _floats(0.5, 0.5, 0.5)


@dataclass
class CalibrationData:
    """``quant_calibration_dataset``."""

    images_dir: str = ""


@dataclass
class SegmentData:
    """``dataset.segment``."""

    root_dir: str = ""
    label_transform: str = "norm"
    data_name: str = "LEVIR"
    dataset: str = "CNDataset"
    multi_scale_train: bool = True
    multi_scale_infer: bool = False
    num_classes: int = 2
    img_size: int = 224
    batch_size: int = 8
    workers: int = 8
    shuffle: bool = True
    image_folder_name: str = "A"
    change_image_folder_name: str = "B"
    list_folder_name: str = "list"
    annotation_folder_name: str = "label"
    augmentation: SegmentAugmentation = field(default_factory=SegmentAugmentation)
    train_split: str = "train"
    validation_split: str = "val"
    test_split: str = "test"
    predict_split: str = "test"
    label_suffix: str = ".png"
    color_map: dict[str, list[int]] | None = None
    quant_calibration_dataset: CalibrationData = field(default_factory=CalibrationData)


@dataclass
class SegmentTrain:
    """``train.segment``."""

    loss: str = "ce"
    weights: list[float] = _floats(0.5, 0.5, 0.5, 0.8, 1.0)


@dataclass
class Export:
    """``export``."""

    results_dir: str | None = None
    gpu_id: int = 0
    checkpoint: str = MISSING
    onnx_file: str = MISSING
    on_cpu: bool = False
    input_channel: int = 3
    input_width: int = 224
    input_height: int = 224
    opset_version: int = 17
    batch_size: int = -1
    verbose: bool = False
    format: str = "onnx"
    serialize_nvdsinfer: bool = False


@dataclass
class TensorRTCalibration:
    """``gen_trt_engine.tensorrt.calibration``."""

    cal_image_dir: list[str] = MISSING
    cal_cache_file: str = MISSING
    cal_batch_size: int = 1
    cal_batches: int = 1


@dataclass
class TensorRT:
    """``gen_trt_engine.tensorrt``."""

    workspace_size: int = 1024
    min_batch_size: int = 1
    opt_batch_size: int = 1
    max_batch_size: int = 8
    layers_precision: list[str] = field(default_factory=list)
    data_type: str = "fp32"
    calibration: TensorRTCalibration = field(default_factory=TensorRTCalibration)


@dataclass
class GenTrtEngine:
    """``gen_trt_engine``."""

    results_dir: str | None = None
    gpu_id: int = 0
    onnx_file: str = MISSING
    trt_engine: str = MISSING
    timing_cache: str | None = None
    batch_size: int = -1
    verbose: bool = False
    tensorrt: TensorRT = field(default_factory=TensorRT)


@dataclass
class Quantize:
    """``quantize``."""

    backend: str = "torchao"
    mode: str = "weight_only_ptq"
    algorithm: str = "minmax"
    layers: list[Any] = field(default_factory=list)
    skip_names: list[str] = field(default_factory=list)
    model_path: str = ""
    results_dir: str = ""
    backend_kwargs: dict[str, Any] = field(default_factory=dict)
    device: str = "cuda"
