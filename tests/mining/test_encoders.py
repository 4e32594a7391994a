"""SigLIP from a folder that the test itself saves, plain pixels, and embedding in shards."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deft_aoi.contract.errors import Blocked, HardStop, UsageError
from deft_aoi.contract.files import sha256_bytes
from deft_aoi.mining import encoders, jobs, shards
from deft_aoi.mining.pool import write_parquet
from deft_aoi.mining.store import EmbeddingStore

from .conftest import write_image

needs_siglip = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")),
    reason="torch or transformers is not installed",
)
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


def save_tiny_siglip(folder: Path) -> Path:
    import torch
    from transformers import SiglipConfig, SiglipModel, SiglipTextConfig, SiglipVisionConfig

    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = SiglipTextConfig(vocab_size=32, max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1, **size)
    config = SiglipConfig(
        text_config=text.to_dict(), vision_config=SiglipVisionConfig(image_size=32, patch_size=8, **size).to_dict()
    )
    SiglipModel(config).save_pretrained(folder)
    processor = {"size": {"height": 32, "width": 32}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def _table(tmp_path: Path, count: int) -> Path:
    rows = []
    for i in range(count):
        write_image(tmp_path / "images" / f"{i}.png", i)
        rows.append(
            {
                "sample_id": f"s{i}",
                "light": "L",
                "filepath": str(tmp_path / "images" / f"{i}.png"),
                "golden_filepath": "",
                "content_id": sha256_bytes(str(i).encode()),
            }
        )
    write_parquet(pd.DataFrame(rows), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def test_difference_looks_at_what_is_lighter_and_what_is_darker_where(tmp_path):
    plain = np.full((64, 64, 3), 100, np.uint8)
    pictures = {"golden": plain, "lighter": plain.copy(), "lighter_again": plain.copy(), "darker": plain.copy()}
    pictures["lighter"][8:16, 8:16], pictures["lighter_again"][8:16, 8:16], pictures["darker"][8:16, 8:16] = 200, 220, 20
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    files = [str(tmp_path / f"{name}.png") for name in pictures]
    vectors = encoders.make_encoder("difference").encode(files, files[:1] * 4)
    assert vectors.shape == (4, 2 * 16 * 16 + 1)
    assert not vectors[0, :-1].any(), "nothing differs"
    vectors = vectors[:, :-1]
    _, lighter, again, darker = vectors
    assert lighter @ again == pytest.approx(np.linalg.norm(lighter) * np.linalg.norm(again))
    assert lighter @ darker == 0, "a hole is not a spot"


@needs_siglip
def test_siglip_from_a_folder_gives_the_models_own_image_features(tmp_path):
    import torch
    from transformers import SiglipModel

    folder = save_tiny_siglip(tmp_path / "model")
    encoder = encoders.SiglipEncoder(folder, device="cpu", batch_size=2)
    write_image(tmp_path / "a.png", 1, size=50)
    write_image(tmp_path / "b.png", 2, size=20)
    write_image(tmp_path / "c.png", 3, size=32)
    got = encoder.encode([str(tmp_path / f"{n}.png") for n in "abc"])
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
    with torch.inference_mode():
        whole = SiglipModel.from_pretrained(folder).eval()
        features = whole.get_image_features(pixel_values=torch.from_numpy(((pixels - 0.5) / 0.5).transpose(2, 0, 1)[None].copy()))
        features = getattr(features, "pooler_output", features)
    assert got.shape == (3, 16)
    assert np.allclose(got[0], features.numpy()[0], atol=1e-5)
    assert encoder.identity.name == "siglip:model"
    assert encoder.identity.digest == encoders.siglip_identity(folder).digest


@needs_siglip
def test_the_hugging_face_cache_is_found_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert encoders.find_siglip() is None
    with pytest.raises(Blocked, match="SigLIP model is not here"):
        encoders.make_encoder("siglip")
    repo = tmp_path / "hub" / "models--google--siglip-base-patch16-224"
    save_tiny_siglip(repo / "snapshots" / "abc123")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc123")
    assert encoders.make_encoder("siglip").identity.name == "siglip:google/siglip-base-patch16-224"


@needs_siglip
def test_other_weights_or_preprocessing_are_another_encoder_and_pickles_are_refused(tmp_path):
    folder = save_tiny_siglip(tmp_path / "model")
    before = encoders.siglip_identity(folder).digest
    config = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**config, "resample": 2}))
    assert encoders.siglip_identity(folder).digest != before
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Blocked, match="safetensors"):
        encoders.SiglipEncoder(folder)


@needs_siglip
def test_siglip_embeds_the_jobs_table_into_the_store(tmp_path):
    folder = save_tiny_siglip(tmp_path / "model")
    source = _table(tmp_path, 5)
    assert encoders.embed_table(source, tmp_path / "out.parquet", encoders.SiglipEncoder(folder)) == 5
    rows = pq.read_table(source).to_pandas()
    ids, vectors = jobs.read_job_output(rows, tmp_path / "out.parquet", root=tmp_path, lights=("L",), pair=False)
    store = EmbeddingStore(tmp_path / "cache", encoders.siglip_identity(folder))
    assert store.add(ids, vectors) == 5
    assert encoders.read_identity(tmp_path / "out.parquet") == encoders.siglip_identity(folder).as_dict()


def test_pixels_see_equal_images_as_equal_and_damaged_ones_stop(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        write_image(tmp_path / f"{name}.png", seed)
    write_image(tmp_path / "copy.bmp", 1)
    got = encoders.PixelEncoder().encode([str(tmp_path / n) for n in ("a.png", "b.png", "copy.bmp")])
    assert np.array_equal(got[0], got[2])
    assert not np.array_equal(got[0], got[1])
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(HardStop, match="cannot be decoded"):
        encoders.PixelEncoder().encode([str(tmp_path / "a.png")])


def test_shards_cover_the_table_resume_and_give_what_one_process_gives(tmp_path):
    source = _table(tmp_path, 30)
    job = shards.ShardJob(source, tmp_path / "shards", 4, "pixels")
    with pytest.raises(HardStop, match="4 of 4 shards"):
        shards.collect(job, tmp_path / "joined.parquet")
    assert shards.run_shard(job, 2) > 0
    assert shards.run_shard(job, 2) == 0
    job.path(1).write_bytes(b"torn")
    assert shards.run_all(job) == 30 - len(pq.read_table(job.path(2)))
    assert shards.run_all(job) == 0
    assert shards.collect(job, tmp_path / "joined.parquet") == 30
    encoders.embed_table(source, tmp_path / "plain.parquet", encoders.PixelEncoder())
    left, right = (pq.read_table(tmp_path / f"{n}.parquet").to_pandas() for n in ("joined", "plain"))
    assert left["sample_id"].tolist() == right["sample_id"].tolist()
    assert np.array_equal(np.stack(left["embedding"]), np.stack(right["embedding"]))
    for wrong in (-1, 4):
        with pytest.raises(UsageError):
            shards.run_shard(job, wrong)


def test_the_shard_worker_is_a_plain_command(tmp_path):
    source = _table(tmp_path, 6)
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    command = [
        sys.executable,
        "-m",
        "deft_aoi.mining.shards",
        "--input",
        source,
        "--output-dir",
        tmp_path / "o",
        "--shards",
        "2",
        "--encoder",
        "pixels",
        "--shard",
    ]
    for shard, code in (("0", 0), ("1", 0), ("2", 2)):
        done = subprocess.run([*map(str, command), shard], cwd=scripts, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert shards.collect(shards.ShardJob(source, tmp_path / "o", 2, "pixels"), tmp_path / "all.parquet") == 6


@needs_ray
def test_ray_on_a_cluster_of_two_workers():
    """In a process of its own: the threads that Ray leaves behind do not survive the forks of later tests."""
    cases = Path(__file__).with_name("ray_cases.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", str(cases)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cases.parents[2],
    )
    assert done.returncode == 0, done.stdout[-4000:]
