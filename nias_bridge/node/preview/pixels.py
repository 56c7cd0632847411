"""Matrices of levels as PNG, coloured so that equal steps look equal (viridis)."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Viridis as polynomials of six degrees in the level, from 0 to 1, for red, green and blue.
_VIRIDIS = np.array(
    [
        [0.27772733, 0.00540734, 0.33409981],
        [0.10509304, 1.40461353, 1.38459016],
        [-0.33086183, 0.21484756, 0.09509516],
        [-4.63423050, -5.79910097, -19.33244096],
        [6.22826994, 14.17993337, 56.69055260],
        [4.77638500, -13.74514538, -65.35303263],
        [-5.43545586, 4.64585261, 26.31243525],
    ]
)


def _ramp() -> NDArray[Any]:
    at = np.linspace(0, 1, 256)[:, None] ** np.arange(7)
    ramp: NDArray[Any] = (np.clip(at @ _VIRIDIS, 0, 1) * 255).round().astype(np.uint8)
    return ramp


RAMP = _ramp()


def png(levels: NDArray[Any]) -> bytes:
    """A matrix of levels 1 to 255 as a PNG; level 0 is transparent."""
    height, width = levels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = levels
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            _chunk(b"IHDR", struct.pack(">2L5B", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", RAMP.tobytes()),
            _chunk(b"tRNS", b"\0"),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return struct.pack(">L", len(content)) + whole + struct.pack(">L", zlib.crc32(whole))
