"""An image of any common kind, from its file's bytes, as the uint8 RGB array that a network takes.

A photo is seldom wanted at its full size. So a JPEG is decoded at 1/8, 2/8, 3/8 or 4/8 of it (the inverse transform
leaves out what the smaller size cannot show) and every other kind is shrunk in strips; what a file will cost is known
from its header before memory is taken. simplejpeg decodes where it is installed, Pillow otherwise: both are
libjpeg-turbo with the same settings, so the pixels are the same.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from math import ceil, floor
from os import PathLike
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from toolkit.arithmetic import require_choice, require_whole
from toolkit.streaming.failures import Cause, SampleError
from toolkit.streaming.headers import JpegHeader, exif_orientation, metadata_bytes, read_jpeg_header, webp_size
from toolkit.streaming.pillow import FORMATS, as_rgb, quiet_pillow, too_many_pixels, unreadable
from toolkit.streaming.threads import DaemonPool

try:
    import simplejpeg
except ImportError:  # slower without it, and nothing else
    simplejpeg = None

Pixels = NDArray[np.uint8]
Fit = Literal["crop", "pad", "stretch"]

MAX_PIXELS = 50_000_000
"""The largest image that is decoded, in pixels: above the 48 megapixels of today's phones, 150 MB as RGB."""

# The scales, in eighths, that Pillow can ask libjpeg for, each with its denominator: libjpeg rounds 1/3 up to 3/8.
_DENOMINATORS = {1: 8, 2: 4, 3: 3, 4: 2, 8: 1}
# Each scan of a progressive JPEG is a pass over the whole image. Real ones have about ten; no more than this is taken.
_MOST_SCANS, _MOST_SCANNED = 100, 200_000_000  # scans; scans × pixels, which take a second
_STRIP = 1 << 16  # pixels that are made RGB at a time
_SMALL = 4_000_000  # bytes that every thread may hold at the same time
# Bytes of a pixel in Pillow's memory, where they are not four.
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
# Bytes that decoders hold besides. The decoders written in Python are slow, so they get small images only.
_DECODER_BYTES = {"tiff": 8, "libtiff": 8, "ppm": 40, "ppm_plain": 40, "bmp_rle": 40}
_WEBP_BYTES = 16  # of a pixel, in all


@dataclass(frozen=True)
class DecodeLimits:
    """What one image may cost.

    max_pixels: its width × height. max_decode_bytes: memory that its decoding holds at the peak, predicted from the
    header: by default an RGB image of 3840 × 2160 in a file that is no JPEG, a WebP of 1920 × 1080, a progressive photo
    of 11 megapixels, a baseline JPEG of 50. Images that need more than 4 MB are decoded one after the other.
    """

    max_pixels: int = MAX_PIXELS
    max_decode_bytes: int = 36_000_000

    def __post_init__(self) -> None:
        require_whole("max_pixels", self.max_pixels)
        require_whole("max_decode_bytes", self.max_decode_bytes)


_DEFAULT_LIMITS = DecodeLimits()


def decode_image(
    data: bytes, height: int, width: int, *, fit: Fit = "crop", limits: DecodeLimits = _DEFAULT_LIMITS
) -> Pixels:
    """An image from its file's bytes, as a person sees it: uint8 RGB (height, width, 3), C-contiguous.

    The array is not to be written. The image is turned as its EXIF tag says; transparency lies on white; 16-bit greys
    keep their upper eight bits; an animation gives its first frame. Colour profiles are ignored, as training sets
    ignore them. "crop" fills the shape and cuts what hangs over evenly on both sides, "pad" shows all of it between
    black bars, "stretch" distorts it.
    Any thread may call it; images that need much memory wait for each other.
    Raises SampleError: no image, one of another kind than `FORMATS`, damaged, cut off, or beyond the limits.

    >>> decode_image(b"P6 1 1 255 " + bytes([255, 0, 0]), 1, 2).tolist()
    [[[255, 0, 0], [255, 0, 0]]]
    """
    require_choice("fit", fit, ("crop", "pad", "stretch"))
    require_whole("height", height)
    require_whole("width", width)
    decode = _from_jpeg if data.startswith(b"\xff\xd8") else _from_other
    return _told(data, limits, partial(decode, data, (width, height), fit, limits))


def _told(data: bytes, limits: DecodeLimits, work: Callable[[], Pixels]) -> Pixels:
    """What `work` makes, or a SampleError, raised where it keeps no frame alive that holds pixels."""
    try:
        return work()
    except SampleError as error:
        problem = error.with_traceback(None)
    except Exception as error:  # damaged bytes can make a decoder raise anything
        problem = unreadable(error, data, limits.max_pixels)
    raise problem


def _within(size: int, data: bytes, limits: DecodeLimits, work: Callable[[], Pixels]) -> Pixels:
    """Do work that needs `size` bytes of memory; if that is much, in the one thread for such work.

    One thread, because the C library keeps for each thread what that thread has freed: after four large images in four
    threads the process would hold the memory of four.
    """
    if size > limits.max_decode_bytes:
        raise SampleError(
            Cause.TOO_COSTLY, f"decoding may take {limits.max_decode_bytes:,} bytes of memory; this would take {size:,}"
        )
    return work() if size <= _SMALL else _large.submit(_given_back, data, limits, work).result()


def _given_back(data: bytes, limits: DecodeLimits, work: Callable[[], Pixels]) -> Pixels:
    """Do work, and let the C library give the memory back: what it keeps is in pieces that the next image may not fit.

    That takes it a few milliseconds, of the hundred that an image of this size takes.
    """
    try:
        return _told(data, limits, work)
    finally:
        _trim(0)


def _require_pixels(width: int, height: int, limits: DecodeLimits) -> None:
    if width * height > limits.max_pixels:
        raise too_many_pixels(limits.max_pixels)


# Where the picture goes


class _Layout(NamedTuple):
    """The part of the source that is shown (left, top, width, height; in its pixels), and its size when it is shown."""

    left: float
    top: float
    width: float
    height: float
    size: tuple[int, int]

    @property
    def fits(self) -> bool:
        """The two differ by less than a pixel."""
        width, height = self.size
        return abs(self.width - width) < 1 and abs(self.height - height) < 1

    def scaled(self, across: float, down: float) -> "_Layout":
        return _Layout(self.left * across, self.top * down, self.width * across, self.height * down, self.size)

    def moved(self, left: int, top: int) -> "_Layout":
        return self._replace(left=self.left - left, top=self.top - top)


def _layout(source: tuple[int, int], target: tuple[int, int], fit: Fit) -> _Layout:
    (width, height), (wanted_width, wanted_height) = source, target
    if fit == "crop":
        inner_width = min(width, height * wanted_width / wanted_height)
        inner_height = min(height, width * wanted_height / wanted_width)
        return _Layout((width - inner_width) / 2, (height - inner_height) / 2, inner_width, inner_height, target)
    if fit == "stretch":
        return _Layout(0, 0, width, height, target)
    scale = min(wanted_width / width, wanted_height / height)
    return _Layout(0, 0, width, height, (max(1, round(width * scale)), max(1, round(height * scale))))


def _resampled(pixels: Pixels, layout: _Layout) -> Pixels:
    """The part that is shown, at the size in which it is shown; where it fits, the pixels stay as they are."""
    if layout.fits:
        width, height = layout.size
        rows, columns = pixels.shape[:2]
        left = min(max(round(layout.left + (layout.width - width) / 2), 0), columns - width)
        top = min(max(round(layout.top + (layout.height - height) / 2), 0), rows - height)
        return pixels[top : top + height, left : left + width]
    return _resized(Image.fromarray(pixels), layout)


def _resized(image: Image.Image, layout: _Layout) -> Pixels:
    right, bottom = min(layout.left + layout.width, image.width), min(layout.top + layout.height, image.height)
    return np.asarray(image.resize(layout.size, Image.Resampling.BICUBIC, (layout.left, layout.top, right, bottom)))


def _placed(pixels: Pixels, target: tuple[int, int], orientation: int) -> Pixels:
    """Black bars around what does not fill the target, and the turn that makes it upright."""
    width, height = target
    rows, columns = pixels.shape[:2]
    if (columns, rows) != target:
        canvas = np.zeros((height, width, 3), np.uint8)
        top, left = (height - rows) // 2, (width - columns) // 2
        canvas[top : top + rows, left : left + columns] = pixels
        pixels = canvas
    return np.ascontiguousarray(upright(pixels, orientation))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """An image (height, width, 3), turned as its EXIF orientation (1 to 8) asks; a view.

    >>> upright(np.arange(6, dtype=np.uint8).reshape(1, 2, 3), 3)[0, 0].tolist()
    [3, 4, 5]
    """
    turned = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    down = -1 if orientation in {3, 4, 7, 8} else 1
    across = -1 if orientation in {2, 3, 6, 7} else 1
    return turned[::down, ::across]


def _stored(target: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The target as it lies before the turn."""
    return target[::-1] if orientation >= 5 else target


def fitted(pixels: Pixels, height: int, width: int, fit: Fit) -> Pixels:
    """An RGB image (h, w, 3) at this size, placed as `decode_image` places it: uint8 (height, width, 3).

    >>> fitted(np.full((2, 9, 3), 5, np.uint8), 4, 4, "pad")[:, 0, 0].tolist()
    [0, 5, 0, 0]
    """
    layout = _layout((pixels.shape[1], pixels.shape[0]), (width, height), fit)
    return _placed(_resampled(pixels, layout), (width, height), 1)


# JPEG


def _from_jpeg(data: bytes, target: tuple[int, int], fit: Fit, limits: DecodeLimits) -> Pixels:
    header = read_jpeg_header(data)
    _require_pixels(header.width, header.height, limits)
    target = _stored(target, header.orientation)
    layout = _layout((header.width, header.height), target, fit)
    eighths = _eighths(layout)
    shown = _within(_jpeg_bytes(header, eighths), data, limits, partial(_shown, data, header, eighths, layout))
    return _placed(shown, target, header.orientation)


def _shown(data: bytes, header: JpegHeader, eighths: int, layout: _Layout) -> Pixels:
    return _resampled(_decoded_jpeg(data, header, eighths), layout.scaled(eighths / 8, eighths / 8))


def _eighths(layout: _Layout) -> int:
    """The smallest scale at which the part that is shown is at least as large as it is wanted, to within a pixel."""
    width, height = layout.size
    fits = (k for k in _DENOMINATORS if layout.width * k > 8 * (width - 1) and layout.height * k > 8 * (height - 1))
    return next(fits, 8)


def _scaled_size(header: JpegHeader, eighths: int) -> tuple[int, int]:
    return -(-header.width * eighths // 8), -(-header.height * eighths // 8)


def _jpeg_bytes(header: JpegHeader, eighths: int) -> int:
    """Memory at the peak: coefficients that are kept, the pixels as an array and as Pillow has them (CMYK: twice), and
    of each colour three rows of blocks, up to 16 pixels high.
    """
    _require_few_scans(header)
    width, height = _scaled_size(header, eighths)
    return header.kept_bytes + width * height * (11 if header.components == 4 else 7) + header.width * 144


def _require_few_scans(header: JpegHeader) -> None:
    most = min(_MOST_SCANS, _MOST_SCANNED // (header.width * header.height))
    if header.scans > most:
        raise SampleError(
            Cause.TOO_COSTLY,
            f"a JPEG of this size may have {most} scans; it has {header.scans:,}, a pass over it for each",
        )


def _decoded_jpeg(data: bytes, header: JpegHeader, eighths: int) -> Pixels:
    width, height = _scaled_size(header, eighths)
    if simplejpeg is not None and header.components != 4:
        try:
            pixels: Pixels = simplejpeg.decode_jpeg(
                data, "RGB", fastdct=False, fastupsample=False, min_height=height, min_width=width
            )
        except ValueError:
            pass  # a rare kind, or not quite well-formed: Pillow decides
        else:
            if pixels.shape == (height, width, 3):
                return pixels
    return _pillow_jpeg(data, eighths, (width, height))


def _pillow_jpeg(data: bytes, eighths: int, size: tuple[int, int]) -> Pixels:
    """As `Image.draft` does it, which has no 3/8."""
    with quiet_pillow(), Image.open(BytesIO(data), formats=("JPEG",)) as image:
        image.tile = [image.tile[0]._replace(extents=(0, 0, *size))]
        image._size = size
        image.decoderconfig = (_DENOMINATORS[eighths], 0)
        return np.asarray(as_rgb(image))


# Every other kind


def _from_other(data: bytes, target: tuple[int, int], fit: Fit, limits: DecodeLimits) -> Pixels:
    metadata = metadata_bytes(data)
    if metadata > limits.max_decode_bytes // 4:
        raise SampleError(
            Cause.TOO_COSTLY, f"an image was expected; what it says about itself takes {metadata:,} bytes"
        )
    size = _webp_bytes(data, limits) if data[8:12] == b"WEBP" else 0
    if size <= _SMALL:
        with _opened(data) as image:
            size = size or _other_bytes(image, limits) + len(data)
            if size <= min(_SMALL, limits.max_decode_bytes):
                return _finished(image, target, fit)
    return _within(size, data, limits, partial(_decoded_other, data, target, fit))


def _decoded_other(data: bytes, target: tuple[int, int], fit: Fit) -> Pixels:
    with _opened(data) as image:
        return _finished(image, target, fit)


@contextmanager
def _opened(data: bytes) -> Iterator[ImageFile.ImageFile]:
    """Closed at the end: Pillow's TIFF images refer to themselves, and would hold their pixels for a while."""
    with quiet_pillow(), closing(Image.open(BytesIO(data), formats=FORMATS)) as image:
        yield image


def _finished(image: ImageFile.ImageFile, target: tuple[int, int], fit: Fit) -> Pixels:
    image.load()
    orientation = exif_orientation(image.info.get("exif") or b"")
    target = _stored(target, orientation)
    return _placed(_shrunk(image, _layout(image.size, target, fit)), target, orientation)


def _webp_bytes(data: bytes, limits: DecodeLimits) -> int:
    width, height = webp_size(data)
    _require_pixels(width, height, limits)
    return _needed(width * height, _WEBP_BYTES) + len(data)


def _other_bytes(image: ImageFile.ImageFile, limits: DecodeLimits) -> int:
    _require_pixels(image.width, image.height, limits)
    decoder = image.tile[0].codec_name if image.tile else ""
    return _needed(image.width * image.height, _MODE_BYTES.get(image.mode, 4) + _DECODER_BYTES.get(decoder, 0))


def _needed(pixels: int, pixel_bytes: int) -> int:
    """Memory at the peak, measured with Pillow 12.3: the decoder's pixels and Pillow's, and one strip as RGB."""
    return pixels * pixel_bytes + min(pixels, _STRIP) * 16


def _shrunk(image: Image.Image, layout: _Layout) -> Pixels:
    """The part that is shown, made RGB strip by strip; each strip is averaged down to about twice the size wanted."""
    across, down = (max(1, int(shown // (2 * size))) for shown, size in zip(layout[2:4], layout.size, strict=True))
    if across == down == 1 and not layout.fits and image.width * image.height <= _STRIP:
        return _resized(as_rgb(image), layout)
    left, top = floor(layout.left), floor(layout.top)
    right, bottom = ceil(layout.left + layout.width), ceil(layout.top + layout.height)
    rows = max(1, _STRIP // ((right - left) * down)) * down
    boxes = ((left, y, right, min(y + rows, bottom)) for y in range(top, bottom, rows))
    strips = [np.asarray(as_rgb(image.crop(box)).reduce((across, down))) for box in boxes]
    return _resampled(np.concatenate(strips), layout.moved(left, top).scaled(1 / across, 1 / down))


def whole_image(
    source: bytes | str | PathLike[str], *, max_pixels: int = MAX_PIXELS, near: int | None = None
) -> Image.Image:
    """An image from its file's bytes or path, upright, as an RGB image of Pillow's at its own size.

    With `near`, a JPEG may come out smaller, but no side below twice that. Raises SampleError as `decode_image` does,
    except for memory: all of `max_pixels` may be asked for.

    >>> whole_image(b"P6 2 1 255 " + bytes(6)).size
    (2, 1)
    """
    file = BytesIO(source) if isinstance(source, bytes) else source
    limits = DecodeLimits(min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels))
    try:
        with quiet_pillow(), Image.open(file, formats=FORMATS) as image:
            _require_pixels(image.width, image.height, limits)
            if near is not None:
                image.draft(None, (2 * near, 2 * near))
            image.load()
            orientation = exif_orientation(image.info.get("exif") or b"")
            return _turned(as_rgb(image), orientation)
    except SampleError:
        raise
    except Exception as error:  # see above
        raise unreadable(error, source, limits.max_pixels) from error


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == 1 else Image.fromarray(upright(np.asarray(image), orientation))


# glibc's; other C libraries give large pieces back by themselves.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", int) if sys.platform == "linux" else int
_large = DaemonPool(1, "toolkit-large-images")


def _renew() -> None:
    """A forked child has the pool but not its thread."""
    global _large  # noqa: PLW0603
    _large = DaemonPool(1, "toolkit-large-images")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
