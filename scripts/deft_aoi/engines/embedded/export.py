"""``visual_changenet export``: the network with scaling, normalisation and the average over quarter turns as one ONNX graph.

    pairs           (B, 1 + num_golden, 3, H, W) uint8, RGB: test, then its goldens; lights stacked as in training
    siamese_score   (B,) float32, higher = more defective

Resizing to H x W (bilinear, antialiased) and registering the golden stay with the caller: both work on whole images of any
size. Threshold, label rule and this contract are in the file's metadata.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from deft_aoi.contract.files import atomic_write_bytes
from deft_aoi.engines.embedded import checkpoint
from deft_aoi.engines.embedded.data import PairLayout
from deft_aoi.engines.embedded.model import ModelConfig, SiameseNet, normalise, scores, views
from deft_aoi.engines.embedded.status import StatusLog

INPUT, OUTPUT = "pairs", "siamese_score"


class Scorer(nn.Module):
    """Pairs as they are decoded to scores."""

    def __init__(self, model: SiameseNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, pairs: Tensor) -> Tensor:
        """Scores ``(B,)`` of pairs ``(B, 1 + N, 3, H, W)`` uint8: what :func:`score_pairs` gives for the same pixels."""
        outputs = [self.model(*normalise(view, self.model.config)) for view in views(pairs.float() / 255.0)]
        return scores(torch.stack(outputs).mean(0))


def metadata(config: DictConfig, shape: tuple[int, ...]) -> dict[str, str]:
    """What a station must know beside the graph; every value is text, as ONNX has it."""
    classify = config.dataset.classify
    return {
        "engine": "embedded",
        "rule": "siamese_score > threshold: defect",
        "threshold": repr(float(config.model.classify.eval_margin)),
        "input": f"{INPUT}: uint8 (B, {', '.join(map(str, shape))}), RGB, test then goldens",
        "size_of_a_light": f"{classify.image_width} x {classify.image_height} px, width x height, bilinear, antialiased",
        "lights": json.dumps(list(classify.input_map or {}), ensure_ascii=False),
        "stacking": "grid" if classify.concat_type == "grid" else "lights below one another, in their order",
        "in_the_graph": "scaling by 1/255, normalisation, average over quarter turns, softmax",
        "preprocessing": "resize; register the golden where best_model.json's preprocessing.required says so",
    }


def run_export(config: DictConfig, log: StatusLog) -> None:
    """Write ``export.onnx_file``.

    Raises:
        ValueError: ``onnx`` or ``onnxscript`` is not installed.
        CheckpointError, FileNotFoundError: as for inference.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  # PyTorch's exporter needs it
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed: pip install onnx onnxscript onnxruntime") from error
    path = Path(config.export.checkpoint)
    log.write(f"Loading checkpoint: {path}")
    model, _ = checkpoint.build_model(path, torch.device("cpu"), expected=ModelConfig.from_spec(config))
    layout = PairLayout.from_config(config.dataset.classify, "/")
    shape = (1 + layout.num_golden, *layout.shape)
    example = torch.zeros((2, *shape), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        program = torch.onnx.export(
            Scorer(model).train(False),
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamo=True,
            dynamic_shapes={INPUT: {0: batch}},
            verbose=False,
        )
    assert program is not None  # with dynamo there is always one
    made = program.model_proto
    for key, value in metadata(config, shape).items():
        entry = made.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(made)
    target = Path(config.export.onnx_file)
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(target, made.SerializeToString())
    log.write(f"Exported {os.fspath(target)}, opset {made.opset_import[0].version}")
