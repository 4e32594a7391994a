"""Secrets never reach a log: their exact values and well-known token shapes are masked on the way to disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MASK = b"[redacted]"
_SHAPES = re.compile(rb"hf_[A-Za-z0-9]{20,}|nvapi-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|(?<=://)[^/\s:@]{1,64}:[^/\s@]{1,256}(?=@)")
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)($|_)|(^|_)(API_?KEY|ACCESS_KEY(_ID)?|NGC_KEY)$")
_MIN_SECRET_BYTES = 6  # masking a shorter value would shred ordinary text


def known_secrets(environment: Mapping[str, str]) -> list[str]:
    """Values of the variables that are named like credentials: ``HF_TOKEN``, ``NGC_API_KEY``, ``AWS_SECRET_ACCESS_KEY``, …."""
    return [value for name, value in environment.items() if value and _SECRET_NAME.search(name.upper())]


def redact(data: bytes, secrets: Iterable[str] = ()) -> bytes:
    """Mask ``secrets`` and token-shaped words in ``data``."""
    for secret in secrets:
        value = secret.strip().encode()
        if len(value) >= _MIN_SECRET_BYTES:
            data = data.replace(value, MASK)
    return _SHAPES.sub(MASK, data)


class LineRedactor:
    """Redacts a stream: only whole lines leave, so that a token cut by a read is still seen whole."""

    _LONGEST_LINE = 1 << 16

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(secrets)
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be written now."""
        data = self._rest + chunk
        cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if not cut and len(data) > self._LONGEST_LINE:
            cut = len(data)
        self._rest = data[cut:]
        return redact(data[:cut], self._secrets)

    def close(self) -> bytes:
        """Return the last line, which has no end."""
        rest, self._rest = self._rest, b""
        return redact(rest, self._secrets)
