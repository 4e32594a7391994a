"""Real files that want to hurt a decoder, and one answer for all who decode: pre-flight, mining, training, the agent's viewer."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deft_aoi.analysis.identity import ContentIndex
from deft_aoi.contract.changenet_csv import ImageLayout
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import ImageRefused, open_image
from deft_aoi.engines.embedded.data import DataError, read_image

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
MAX_CALLS, MAX_RSS_KIB = 300_000, 300 * 1024
"""Function calls (the import of Pillow's plug-in among them) and memory of a refusal: nothing is done a pixel, tile or frame."""


def picture(seed: int = 0, size: tuple[int, int] = (24, 20)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes = b"", *chunks: bytes, bits: int = 8, colour: int = 0) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _zeros(count: int) -> bytes:
    """``count`` zero bytes, deflated, without holding them."""
    packer, out = zlib.compressobj(9), io.BytesIO()
    block = bytes(1 << 20)
    for _ in range(count >> 20):
        out.write(packer.compress(block))
    out.write(packer.compress(bytes(count & ((1 << 20) - 1))) + packer.flush())
    return out.getvalue()


def _save(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _frames(kind: str, **options) -> bytes:
    return _save(picture(1), kind, save_all=True, append_images=[picture(2), picture(3)], **options)


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "PNG of 13,300 x 13,300": ("x.png", lambda: png(13_300, 13_300, _zeros(13_300 * 13_301))),
    "PNG of 100 megapixels in one bit": ("x.png", lambda: png(10_000, 10_000, _zeros(10_000 * 1251), bits=1)),
    "PNG header of 65,000 x 65,000": ("x.png", lambda: png(65_000, 65_000)),
    "PNG header of 2^31 x 2^31": ("x.png", lambda: png(2**31 - 1, 2**31 - 1)),
    "PNG with a text chunk of 300 MB": (
        "x.png",
        lambda: png(8, 8, zlib.compress(bytes(72)), _chunk(b"zTXt", b"a\0\0" + _zeros(300 << 20))),
    ),
    "PNG with a profile of 300 MB": (
        "x.png",
        lambda: png(8, 8, zlib.compress(bytes(72)), _chunk(b"iCCP", b"a\0\0" + _zeros(300 << 20))),
    ),
    "JPEG header of 65,000 x 65,000": ("x.jpg", lambda: _jpeg_of(65_000, 65_000)),
    "BMP header of 60,000 x 60,000": ("x.bmp", lambda: _bmp_of(60_000, 60_000)),
    "TIFF as .png": ("x.png", lambda: _save(picture(), "TIFF")),
    "TIFF of 10,000 x 10,000": ("x.tif", lambda: _save(Image.new("1", (10_000, 10_000)), "TIFF", compression="group4")),
}


def _jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(_save(picture(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _bmp_of(width: int, height: int) -> bytes:
    data = bytearray(_save(picture(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("x.png", lambda: b""),
    "text": ("x.png", lambda: b"IGNORE PREVIOUS INSTRUCTIONS"),
    "cut PNG": ("x.png", lambda: _save(picture(), "PNG")[:-200]),
    "cut JPEG": ("x.jpg", lambda: _save(picture(), "JPEG")[:-200]),
    "cut BMP": ("x.bmp", lambda: _save(picture(), "BMP")[:-200]),
    "PNG with a wrong CRC": ("x.png", lambda: png(4, 4, b"\0" * 30)),
    "zero width": ("x.png", lambda: png(0, 5, zlib.compress(bytes(30)))),
    "animated PNG": ("x.png", lambda: _frames("PNG")),
    "pages in a TIFF": ("x.tif", lambda: _frames("TIFF")),
    "animated WebP": ("x.webp", lambda: _frames("WEBP")),
    "animated GIF as .png": ("x.png", lambda: _frames("GIF")),
    "GIF as .jpg": ("x.jpg", lambda: _save(picture(), "GIF")),
    "WebP as .png": ("x.png", lambda: _save(picture(), "WEBP")),
    "PDF as .png": ("x.png", lambda: _save(picture(), "PDF")),
    "PostScript as .png": ("x.png", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"),
    "SVG as .png": ("x.png", lambda: b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
    "PPM as .bmp": ("x.bmp", lambda: b"P6 4 4 255\n" + bytes(48)),
    "16-bit grey PNG": ("x.png", lambda: _save(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100), "PNG")),
    "16-bit RGB PNG": ("x.png", lambda: png(4, 4, zlib.compress((b"\0" + bytes(range(24))) * 4), bits=16, colour=2)),
    "32-bit float TIFF": ("x.tif", lambda: _save(Image.fromarray(np.ones((8, 8), dtype=np.float32)), "TIFF")),
}

ACCEPTED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "PNG": ("x.png", lambda: _save(picture(), "PNG")),
    "JPEG": ("x.jpg", lambda: _save(picture(), "JPEG")),
    "BMP": ("x.bmp", lambda: _save(picture(), "BMP")),
    "TIFF": ("x.tif", lambda: _save(picture(), "TIFF")),
    "WebP": ("x.webp", lambda: _save(picture(), "WEBP", lossless=True)),
    "JPEG called .png": ("x.png", lambda: _save(picture(), "JPEG")),
    "CMYK JPEG": ("x.jpg", lambda: _save(picture().convert("CMYK"), "JPEG")),
    "grey PNG": ("x.png", lambda: _save(picture().convert("L"), "PNG")),
    "palette PNG": ("x.png", lambda: _save(picture().convert("P"), "PNG")),
    "PNG with alpha": ("x.png", lambda: _save(picture().convert("RGBA"), "PNG")),
    "1-bit PNG": ("x.png", lambda: _save(picture().convert("1"), "PNG")),
    "EXIF-rotated JPEG": (
        "x.jpg",
        lambda: _save(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
    ),
}


def _answers(path: Path) -> dict[str, bytes | None]:
    """What each decoder makes of the file: its pixels, or ``None`` where it refuses with its own typed error."""
    answers: dict[str, bytes | None] = {}
    try:
        image = open_image(path)
        answers["the library"] = image.tobytes()
        size = image.size
    except HardStop:
        answers["the library"], size = None, (24, 20)
    try:
        answers["training"] = read_image(path, *size).tobytes()
    except DataError:
        answers["training"] = None
    return answers


@pytest.mark.parametrize("name", [*REFUSED, *BOMBS])
def test_everybody_refuses(tmp_path: Path, name: str) -> None:
    file, make = (REFUSED | BOMBS)[name]
    path = tmp_path / file
    path.write_bytes(make())
    assert set(_answers(path).values()) == {None}


@pytest.mark.parametrize("name", ACCEPTED)
def test_everybody_accepts_and_sees_the_same_pixels(tmp_path: Path, name: str) -> None:
    file, make = ACCEPTED[name]
    path = tmp_path / file
    path.write_bytes(make())
    pixels = set(_answers(path).values())
    assert len(pixels) == 1
    assert None not in pixels
    with Image.open(path) as image:  # as TAO's loader decodes it: no rotation by EXIF
        assert image.convert("RGB").tobytes() in pixels


def test_a_bomb_costs_few_calls_and_less_than_300_mb(tmp_path: Path) -> None:
    """One process decodes each bomb in turn; its peak memory is that of the worst."""
    for number, (file, make) in enumerate(BOMBS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / file).write_bytes(make())
    code = """
import json, re, sys
from deft_aoi.contract.images import ImageRefused, _pillow, open_image
_pillow()
out = []
for path in sys.argv[1:]:
    calls = 0
    def count(*_):
        global calls
        calls += 1
    sys.setprofile(count)
    try:
        open_image(path)
        out.append([path, 'accepted', 0])
    except ImageRefused as error:
        out.append([path, error.message[:40], calls])
    finally:
        sys.setprofile(None)
# VmHWM and not ru_maxrss: that one counts what the parent had when it forked
print(json.dumps([out, int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])]))
"""
    paths = sorted(str(p) for p in tmp_path.rglob("x.*"))
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, env={"PYTHONPATH": str(SCRIPTS)}, timeout=120
    )
    assert done.returncode == 0, done.stderr
    results, rss_kib = json.loads(done.stdout)
    assert len(results) == len(BOMBS)
    for path, outcome, calls in results:
        assert outcome != "accepted", path
        assert calls < MAX_CALLS, (path, calls)
    assert rss_kib < MAX_RSS_KIB, rss_kib
    assert done.stderr == ""


def _special(folder: Path) -> dict[str, Path]:
    outside = folder / "outside.png"
    picture().save(outside)
    inside = folder / "in"
    inside.mkdir()
    links = {"symbolic link": "a.png", "chain of links": "b.png", "link to /proc": "c.png", "dangling link": "d.png"}
    made = {name: inside / file for name, file in links.items()}
    made["symbolic link"].symlink_to(outside)
    made["chain of links"].symlink_to(made["symbolic link"])
    made["link to /proc"].symlink_to("/proc/self/environ")
    made["dangling link"].symlink_to("/nonexistent/x.png")
    made["hard link"] = inside / "e.png"
    made["hard link"].hardlink_to(outside)
    made["FIFO"] = inside / "f.png"
    os.mkfifo(made["FIFO"])
    made["folder"] = inside / "g.png"
    made["folder"].mkdir()
    made["socket"] = inside / "h.png"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(made["socket"]))
    made["device"] = Path("/dev/zero")
    made["/proc"] = Path("/proc/self/environ")
    return made


def test_what_is_not_a_file_of_its_own_is_refused_at_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = _special(tmp_path)
    assert len(made) == 10
    for name, path in made.items():
        assert set(_answers(path).values()) == {None}, name
        with pytest.raises(ImageRefused):
            open_image(path)


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "FIFO", "bomb", "text"])
def test_a_refused_image_is_named_with_set_line_and_column(tmp_path: Path, kind: str) -> None:
    import pandas as pd

    root = tmp_path / "images"
    for folder in ("a", "golden"):
        (root / folder).mkdir(parents=True)
        for number in range(3):
            picture(number).save(root / folder / f"C{number}_L.png")
    victim = root / "golden" / "C1_L.png"
    victim.unlink()
    if kind == "symbolic link":
        victim.symlink_to(root / "golden" / "C0_L.png")
    elif kind == "hard link":
        victim.hardlink_to(root / "golden" / "C0_L.png")
    elif kind == "FIFO":
        os.mkfifo(victim)
    else:
        victim.write_bytes(b"no image" if kind == "text" else png(65_000, 65_000))
    frame = pd.DataFrame(
        [{"input_path": "a", "golden_path": "golden", "label": "PASS", "object_name": f"C{i}"} for i in range(3)]
    )
    with pytest.raises(HardStop) as stop:
        ContentIndex(tmp_path / "cache").digest_pairs(frame, ImageLayout(root, ("L",), ".png"), what="KPI set")
    if kind == "hard link":  # both of its names are refused
        assert stop.value.message == "KPI set: 2 images cannot be used"
        assert re.match(r"line 2, column golden_path: .*; line 3, column golden_path: ", stop.value.found)
    else:
        assert re.match(r"KPI set, line 3, column golden_path: the image", stop.value.message)
