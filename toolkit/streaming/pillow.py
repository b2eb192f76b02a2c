"""Pillow, as it is used here: which formats, silently, every kind of pixel as RGB, and its errors in words."""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from toolkit.streaming.failures import Cause, SampleError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is decoded: kinds whose decoders stay inside this process. One of Pillow's others starts Ghostscript."""

# How files begin that are often taken for images, or are images that are not decoded here.
_FOREIGN = (
    (rb"\s*<(!doctype html|html|head|body|script)", Cause.NOT_AN_IMAGE, "a web page"),
    (
        rb"\s*(<\?xml[^>]*>\s*)?(<!--.{0,500}-->\s*)?(<!doctype svg[^>]*>\s*)?<svg",
        Cause.UNKNOWN_FORMAT,
        "an SVG drawing",
    ),
    (rb"....ftyp(avif|avis)", Cause.UNKNOWN_FORMAT, "an AVIF image"),
    (rb"....ftyp(heic|heix|mif1|msf1|hevc)", Cause.UNKNOWN_FORMAT, "a HEIF image"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", Cause.UNKNOWN_FORMAT, "a JPEG XL image"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", Cause.UNKNOWN_FORMAT, "a JPEG 2000 image"),
    (rb"\0\0[\1\2]\0", Cause.UNKNOWN_FORMAT, "an icon"),
    (rb"8BPS", Cause.UNKNOWN_FORMAT, "a Photoshop file"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", Cause.UNKNOWN_FORMAT, "a PostScript file"),
    (rb"%PDF", Cause.NOT_AN_IMAGE, "a PDF"),
    (
        rb"\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|BM|P[1-6]\s",
        Cause.DAMAGED_IMAGE,
        "damaged at its start",
    ),
)

# What a file is shows in so many bytes.
_TOLD_BY = 2000


def as_rgb(image: Image.Image) -> Image.Image:
    """Every kind of pixel as RGB of eight bits; transparency lies on white. Raises SampleError for floating point.

    >>> as_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode == "F":
        raise SampleError(Cause.UNKNOWN_FORMAT, "its pixels are floating-point numbers of no agreed range")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB") if image.mode != "RGB" else image
    picture = image.convert("RGBA")
    page = Image.new("RGB", image.size, "white")
    page.paste(picture, mask=picture.getchannel("A"))
    return page


def too_many_pixels(most: int) -> SampleError:
    """An image beyond the limit, in words."""
    return SampleError(Cause.TOO_MANY_PIXELS, f"the image has more than {most:,} pixels; make it smaller")


def unreadable(error: Exception, source: object, max_pixels: int) -> SampleError:
    """What a decoder's error means, as a cause and a sentence. `source` is the file's bytes or its path.

    >>> unreadable(UnidentifiedImageError(), b"<!doctype html><html>", 50_000_000).sentence
    'it is none of JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM: it is a web page'
    """
    match error:
        case Image.DecompressionBombError():
            return too_many_pixels(max_pixels)
        case UnidentifiedImageError():
            return _unidentified(source if isinstance(source, bytes) else _start_of(source))
        case OSError(strerror=str(reason)):
            return SampleError(Cause.UNREADABLE_FILE, f"the file cannot be opened ({reason})")
    text = str(error) or type(error).__name__
    cut = isinstance(error, EOFError) or "truncated" in text.lower()
    cause = Cause.TRUNCATED_IMAGE if cut else Cause.DAMAGED_IMAGE
    return SampleError(cause, f"it is damaged or of a rare kind ({text})")


def _start_of(source: object) -> bytes:
    """The first bytes of a file by its path; none where it cannot be opened any more."""
    with suppress(OSError, TypeError), open(source, "rb") as file:  # type: ignore[call-overload]  # noqa: PTH123
        return bytes(file.read(_TOLD_BY))
    return b""


def _unidentified(data: bytes) -> SampleError:
    if not data:
        return SampleError(Cause.EMPTY, f"it is none of {', '.join(FORMATS)}: it is empty")
    start = data[:_TOLD_BY]
    for pattern, cause, what in _FOREIGN:
        if re.match(pattern, start, re.IGNORECASE | re.DOTALL):
            return SampleError(cause, f"it is none of {', '.join(FORMATS)}: it is {what}")
    return SampleError(Cause.NOT_AN_IMAGE, f"it is none of {', '.join(FORMATS)}")


class _Quiet:
    """Silences Pillow's warnings about odd files while any thread decodes: what is odd is decided here.

    `warnings.catch_warnings` would silence everybody, and would bring back another thread's filters when it ends.
    """

    def __init__(self) -> None:
        self._threads = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        with self._lock:
            self._threads += 1
            if self._threads == 1:
                warnings.filterwarnings("ignore", module=_PILLOW.pattern)

    def leave(self) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads:
                filters: Any = warnings.filters
                with suppress(ValueError):  # another thread's `catch_warnings` has ended and taken it away
                    filters.remove(("ignore", None, Warning, _PILLOW, 0))


_PILLOW = re.compile(r"PIL\.")
_quiet = _Quiet()


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """No warnings from Pillow meanwhile."""
    _quiet.enter()
    try:
        yield
    finally:
        _quiet.leave()
