"""Pictures: their size, and a thumbnail that is surely small and surely a PNG."""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from .record import Desk, NoPreview, Preview

PIXELS_MAX = 100_000_000  # of a picture that is unpacked
THUMBNAIL = 640  # pixels, the longer side
# What nothing but Pillow itself reads: no PostScript, no outside program.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")


def preview(file: BinaryIO, desk: Desk) -> Preview:
    """Size and kind of a picture, and its thumbnail."""
    content, (width, height), what = thumbnail(file)
    facts = {"width": width, "height": height, "format": what}
    return Preview(desk.kind, [facts], [desk.keep(content, ".png")])


def thumbnail(file: BinaryIO) -> tuple[bytes, tuple[int, int], str]:
    """A PNG of a picture, its own width and height, and its format. Raises NoPreview."""
    Image.MAX_IMAGE_PIXELS = None  # judged here, before anything is unpacked
    with Image.open(file, formats=_FORMATS) as image:
        width, height = image.size
        if width * height > PIXELS_MAX:
            raise NoPreview(f"it is too large to be unpacked here ({width} × {height} pixels)")
        what = image.format or ""
        image.draft("RGB", (THUMBNAIL, THUMBNAIL))
        shown = ImageOps.exif_transpose(image) or image
        if shown.mode.startswith(("I", "F")):  # measured values: from the least to the greatest
            values = np.asarray(shown, np.float32)
            finite = np.where(np.isfinite(values), values, np.nan)
            low, high = np.nanmin(finite), np.nanmax(finite)
            levels = np.nan_to_num((finite - low) / ((high - low) or 1) * 255)
            shown = Image.fromarray(levels.astype(np.uint8))
        elif shown.mode not in ("L", "LA", "RGB", "RGBA"):
            shown = shown.convert("RGBA")
        shown.thumbnail((THUMBNAIL, THUMBNAIL))
        drawn = io.BytesIO()
        shown.save(drawn, "PNG")
        return drawn.getvalue(), (width, height), what
