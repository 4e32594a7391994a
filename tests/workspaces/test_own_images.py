"""Pictures of more than 8 bits a channel: refused, or scaled as the user says, never cut."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from deft_aoi.contract.errors import HardStop
from deft_aoi.workspaces.own_images import OwnImages, bits_of


def _deep_png(path: Path, values: np.ndarray, colour: int) -> None:
    """A PNG of 16 bits a channel with all five row filters, as cameras' libraries write it."""
    height, width, samples = values.shape
    raw = values.astype(">u2").tobytes()
    step, length = 2 * samples, width * samples * 2
    lines, above = b"", bytes(length)
    for y in range(height):
        row, kind = raw[y * length : (y + 1) * length], y % 5
        guesses = []
        for x in range(length):
            left, up = row[x - step] if x >= step else 0, above[x]
            corner = above[x - step] if x >= step else 0
            nearest = min((abs(up - corner), 0, left), (abs(left - corner), 1, up), (abs(left + up - 2 * corner), 2, corner))
            guesses.append((0, left, up, (left + up) // 2, nearest[2])[kind])
        lines += bytes([kind]) + bytes((v - g) & 255 for v, g in zip(row, guesses, strict=True))
        above = row
    body = b""
    for name, data in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    ):
        body += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize(("colour", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_twelve_bits_are_refused_or_scaled_as_the_user_says_and_never_cut(tmp_path: Path, colour: int, samples: int) -> None:
    file = tmp_path / "deep.png"
    values = np.random.default_rng(1).integers(0, 4096, (10, 12, samples))
    values[0, 0, 0] = 4095
    _deep_png(file, values, colour)
    with pytest.raises(HardStop) as stop:
        OwnImages().open(file)
    assert "--bit-depth" in stop.value.hint
    assert bits_of("auto", [file]) == 12
    got = np.asarray(OwnImages(12).open(file))
    seen = values[..., :3] if samples >= 3 else values[..., :1].repeat(3, axis=2)
    assert np.abs(got - seen * 255 / 4095).max() <= 0.5 + 1e-9
    assert np.asarray(OwnImages(16).open(file)).max() == 16
    values[0, 0, 0] = 9000
    _deep_png(file, values, colour)
    with pytest.raises(HardStop, match="12 bits cannot hold"):
        OwnImages(12).open(file)
