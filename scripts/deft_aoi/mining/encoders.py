"""Encoders that need no trained model of ours: SigLIP through ``transformers``, the difference image, and pixels.

The difference image looks at both pictures, the others at the test alone. SigLIP is read from a local folder or the Hugging
Face cache; nothing is downloaded, and weights are accepted as safetensors only (a pickle would run code on this machine).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.files import canonical_json, digest_json, read_json, sha256_file
from deft_aoi.contract.images import open_image
from deft_aoi.contract.text import quoted
from deft_aoi.mining.store import EncoderIdentity

if TYPE_CHECKING:
    import numpy as np

SIGLIP = "google/siglip-base-patch16-224"
PIXEL_SIDE = 16
ALIKE = 100
"""Length in grey levels of what good pairs of DeepPCB differ in (median 140, defects 580)."""
_METADATA_KEY = b"deft_encoder"


def find_siglip(model_path: str | None = None) -> Path | None:
    """The folder of the SigLIP model, or ``None``.

    Args:
        model_path: a local folder, else :data:`SIGLIP` is looked up in the Hugging Face cache.

    Raises:
        Blocked: ``model_path`` was given and is no model folder.
    """
    if model_path:
        folder = Path(model_path).expanduser().resolve()
        if not (folder / "config.json").is_file():
            raise Blocked("the SigLIP folder has no config.json", expected="a model folder", found=quoted(folder, 200))
        return folder
    hub = os.environ.get("HF_HUB_CACHE") or os.path.join(os.environ.get("HF_HOME") or "~/.cache/huggingface", "hub")  # noqa: PTH118
    repo = Path(hub).expanduser() / f"models--{SIGLIP.replace('/', '--')}"
    try:
        revision = (repo / "refs" / "main").read_text(encoding="ascii").strip()
    except OSError:
        return None
    folder = repo / "snapshots" / revision
    return folder if (folder / "config.json").is_file() else None


def seen_root(folder: Path) -> Path:
    """What a job must see to read the model: a snapshot of the hub's cache is links into its repository's blobs."""
    return folder.parents[1] if folder.parent.name == "snapshots" else folder


def siglip_identity(folder: Path) -> EncoderIdentity:
    """Identity by the digest of weights and preprocessing.

    Raises:
        Blocked: the folder has no safetensors weights.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise Blocked(
            "the SigLIP folder has no safetensors weights",
            expected="model.safetensors",
            found=quoted(", ".join(sorted(p.name for p in folder.iterdir())), 200),
            hint="download the safetensors file; pickled weights are not accepted",
        )
    digest = sha256_file(weights[0]) if len(weights) == 1 else digest_json([sha256_file(path) for path in weights])
    name = (
        folder.parents[1].name.removeprefix("models--").replace("--", "/") if folder.parent.name == "snapshots" else folder.name
    )
    return EncoderIdentity(f"siglip:{name}", digest, canonical_json(_preprocessing(folder)))


def _preprocessing(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if (folder / "preprocessor_config.json").is_file():
        config = read_json(folder / "preprocessor_config.json", what="SigLIP preprocessor")
    size = config.get("size") or read_json(folder / "config.json", what="SigLIP config")["vision_config"].get("image_size", 224)
    side = size if isinstance(size, int) else size.get("height", 224)
    return {
        "side": int(side),
        "resample": int(config.get("resample", 3)),
        "mean": [float(v) for v in config.get("image_mean", (0.5, 0.5, 0.5))],
        "std": [float(v) for v in config.get("image_std", (0.5, 0.5, 0.5))],
    }


class SiglipEncoder:
    """SigLIP's pooled image features.

    Args:
        folder: of :func:`find_siglip`.
        device: a PyTorch device; by default the GPU where there is one.
        batch_size: images at a time.

    Raises:
        Blocked: ``transformers`` or PyTorch is not installed, or the folder has no safetensors weights.
    """

    def __init__(self, folder: Path, *, device: str | None = None, batch_size: int = 32) -> None:
        self.identity = siglip_identity(folder)
        try:
            import torch
            from transformers import SiglipVisionModel
        except ImportError as error:
            raise Blocked(
                "SigLIP needs transformers and PyTorch", found=str(error), hint="pip install 'deft-aoi[siglip]' torch"
            ) from error
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.preprocessing, self.batch_size = _preprocessing(folder), batch_size
        try:
            # A local folder whose weights are digested: nothing is downloaded here.
            model = SiglipVisionModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)  # nosec B615
        except (OSError, ValueError, RuntimeError) as error:
            raise HardStop(
                "the SigLIP model cannot be loaded",
                found=quoted(error, 160),
                expected=str(folder),
                hint="download the model again, or name its folder with --model-path",
            ) from error
        self.model: Any = model.train(False)
        self.model.to(self.device)

    def encode(self, paths: Sequence[str]) -> np.ndarray:
        """Embed images: ``(N, D)`` float32, not normalised.

        Raises:
            HardStop: an image is missing or cannot be decoded.
        """
        import numpy as np
        import torch

        out = []
        with torch.inference_mode():
            for at in range(0, len(paths), self.batch_size):
                pixels = np.stack([self._pixels(Path(p)) for p in paths[at : at + self.batch_size]])
                pooled = self.model(pixel_values=torch.from_numpy(pixels).to(self.device)).pooler_output
                out.append(pooled.float().cpu().numpy())
        return np.concatenate(out) if out else np.empty((0, self.model.config.hidden_size), dtype=np.float32)

    def _pixels(self, path: Path) -> np.ndarray:
        """``(3, side, side)`` float32, as SigLIP's own processor prepares it."""
        import numpy as np
        from PIL import Image

        how = self.preprocessing
        image = open_image(path).resize((how["side"], how["side"]), Image.Resampling(how["resample"]))
        pixels = np.asarray(image, dtype=np.float32) / 255.0
        return ((pixels - np.float32(how["mean"])) / np.float32(how["std"])).transpose(2, 0, 1)


class PixelEncoder:
    """Appearance without a model: the grey image at 16 x 16, less its mean."""

    def __init__(self, side: int = PIXEL_SIDE) -> None:
        self.side = side
        self.identity = EncoderIdentity(f"pixels:{side}", "none", f"grey {side}x{side} box, mean removed")

    def encode(self, paths: Sequence[str]) -> np.ndarray:
        """Embed images: ``(N, side * side)`` float32."""
        import numpy as np
        from PIL import Image

        rows = []
        for path in paths:
            small = open_image(Path(path)).convert("L").resize((self.side, self.side), Image.Resampling.BOX)
            grey = np.asarray(small, dtype=np.float32).reshape(-1)
            rows.append(grey - grey.mean())
        return np.stack(rows) if rows else np.empty((0, self.side**2), dtype=np.float32)


class DifferenceEncoder:
    """What test and golden differ in, without a model: what is lighter and what is darker, each at 16 x 16.

    A last component of :data:`ALIKE` keeps apart, when vectors are scaled to unit length, how much differs: pairs that
    differ in noise only are near one another. Meant for registered goldens, else the edges of displaced ones are seen.
    """

    def __init__(self, side: int = PIXEL_SIDE) -> None:
        self.side = side
        self.identity = EncoderIdentity(
            f"difference:{side}", "none", f"signed parts of grey test - golden, {side}x{side} box, {ALIKE}"
        )

    def encode(self, paths: Sequence[str], goldens: Sequence[str]) -> np.ndarray:
        """Embed pairs: ``(N, 2 * side * side + 1)`` float32, lighter parts first; a golden of another size fits the test."""
        import numpy as np
        from PIL import Image

        rows = []
        for path, other in zip(paths, goldens, strict=True):
            test, golden = open_image(Path(path)).convert("L"), open_image(Path(other)).convert("L")
            if golden.size != test.size:
                golden = golden.resize(test.size, Image.Resampling.BILINEAR)
            change = np.asarray(test, dtype=np.float32) - np.asarray(golden, dtype=np.float32)
            parts = [Image.fromarray(np.maximum(part, 0)) for part in (change, -change)]
            small = [np.asarray(p.resize((self.side, self.side), Image.Resampling.BOX)).reshape(-1) for p in parts]
            rows.append(np.concatenate([*small, np.array([ALIKE], dtype=np.float32)]))
        return np.stack(rows) if rows else np.empty((0, 2 * self.side**2 + 1), dtype=np.float32)


Encoder = SiglipEncoder | PixelEncoder | DifferenceEncoder


def make_encoder(kind: str, model_path: str | None = None) -> Encoder:
    """The encoder ``siglip`` (of ``model_path`` or the cache), ``difference`` or ``pixels``.

    Raises:
        Blocked: SigLIP is not at hand.
        HardStop: no such encoder.
    """
    if kind == "pixels":
        return PixelEncoder()
    if kind == "difference":
        return DifferenceEncoder()
    if kind != "siglip":
        raise HardStop("unknown encoder", expected="siglip, difference or pixels", found=quoted(kind), hint="name one of them")
    folder = find_siglip(model_path)
    if folder is None:
        raise siglip_absent()
    return SiglipEncoder(folder)


def siglip_absent() -> Blocked:
    """The refusal where SigLIP is wanted and not here, with the choices."""
    return Blocked(
        "the SigLIP model is not here",
        expected=f"{SIGLIP} in the Hugging Face cache, or a model folder",
        hint="copy it here and give --model-path DIR, or mine with --encoder difference (no weights, looks at both) or pixels",
    )


def embed_table(source: Path, result: Path, encoder: Encoder) -> int:
    """Do what the ``embedding`` command does with an encoder of this module.

    Args:
        source: Parquet with ``filepath`` (absolute) and further columns, which are kept.
        result: written atomically: the same rows with ``embedding``, the encoder's identity in the metadata.
        encoder: who embeds.

    Returns:
        The number of rows.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(source)
    return write_embedded(table, encode_table(table, encoder), result, encoder.identity)


def encode_table(table: Any, encoder: Encoder) -> np.ndarray:
    """Embed a table's ``filepath``, with ``golden_filepath`` for an encoder of pairs: ``(N, D)`` float32."""
    tests = table.column("filepath").to_pylist()
    if isinstance(encoder, DifferenceEncoder):
        return encoder.encode(tests, table.column("golden_filepath").to_pylist())
    return encoder.encode(tests)


def write_embedded(table: Any, vectors: np.ndarray, result: Path, identity: EncoderIdentity) -> int:
    """Write a table with its embeddings (fixed-size float32 lists), atomically."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    from deft_aoi.contract.files import atomic_write_bytes

    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), max(vectors.shape[1], 1))
    out = table.append_column("embedding", column)
    metadata = {**(out.schema.metadata or {}), _METADATA_KEY: canonical_json(identity.as_dict()).encode("ascii")}
    sink = io.BytesIO()
    pq.write_table(out.replace_schema_metadata(metadata), sink)
    atomic_write_bytes(result, sink.getvalue())
    return len(table)


def read_identity(path: Path) -> dict[str, Any] | None:
    """The identity in an embedded table's metadata; ``None`` where there is none or the file is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        raw = (pq.read_schema(path).metadata or {}).get(_METADATA_KEY)
        found = json.loads(raw) if raw else None
    except (OSError, ValueError, pa.ArrowException):
        return None
    return found if isinstance(found, dict) else None
