"""Decoding, held against Pillow at full size, the EXIF standard, measured memory and hostile files."""

import io
import os
import struct
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from toolkit.errors import InputError
from toolkit.streaming import decoding, headers, pillow
from toolkit.streaming.decoding import DecodeLimits, Fit, Pixels, decode_image, fitted
from toolkit.streaming.failures import Cause, SampleError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
FITS: tuple[Fit, ...] = ("crop", "pad", "stretch")
needs_simplejpeg = pytest.mark.skipif(not find_spec("simplejpeg"), reason="simplejpeg is not installed")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(width: int = 300, height: int = 200) -> Image.Image:
    """Soft colours without an edge, different everywhere."""
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    """All of it in the second colour."""
    image = Image.new("P", (40, 40), 1)
    image.putpalette(sum(colours, ()))
    return image


def photo() -> Image.Image:
    """A real photo of 640 × 427 pixels, which comes with scikit-learn."""
    path = distribution("scikit-learn").locate_file("sklearn/datasets/images/china.jpg")
    return Image.open(io.BytesIO(Path(str(path)).read_bytes())).convert("RGB")


def difference(one: Pixels, other: Pixels | Image.Image) -> Any:
    return np.abs(one.astype(np.int64) - np.asarray(other))


@pytest.fixture
def pillow_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "simplejpeg", None)


# What comes out


def exact(data: bytes, height: int, width: int, fit: Fit) -> Image.Image:
    """The image as Pillow makes it from all of its pixels."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    if fit == "stretch":
        return image.resize((width, height), Image.Resampling.BICUBIC)
    return (ImageOps.fit if fit == "crop" else ImageOps.pad)(image, (width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_stand_upright_in_their_place(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[headers.ORIENTATION] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = encoded(picture(), kind, exif=exif, **options)
    for fit in FITS:
        image = decode_image(data, 60, 48, fit=fit)
        assert image.shape == (60, 48, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        wrong = difference(image, exact(data, 60, 48, fit))
        assert wrong.max() <= 4
        assert wrong.mean() <= 1


@pytest.mark.parametrize("size", [(96, 96), (160, 90), (64, 48), (120, 213), (400, 300)])
@pytest.mark.parametrize("fit", FITS)
def test_a_real_photo_loses_nothing_by_being_decoded_small(size: tuple[int, int], fit: Fit) -> None:
    """Measured: 33 to 47 dB; bilinear instead of bicubic makes 39 to 43, and a shift by half a pixel 33."""
    data = encoded(photo(), "JPEG", quality=90)
    error = difference(decode_image(data, *size, fit=fit), exact(data, *size, fit))
    assert np.mean(error**2) < 255**2 / 10**3.2


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (encoded(palette(RED, GREEN), "PNG"), GREEN),
        (encoded(palette(RED, GREEN), "PNG", transparency=1), WHITE),
        (encoded(palette(RED, GREEN), "PNG", transparency=0), GREEN),
        (encoded(Image.new("RGBA", (40, 40), (*RED, 255)), "PNG"), RED),
        (encoded(Image.new("RGBA", (400, 400), (0, 0, 0, 128)), "WEBP", lossless=True), (127, 127, 127)),
        (encoded(Image.new("LA", (40, 40), (0, 0)), "PNG"), WHITE),
        (encoded(Image.new("RGB", (40, 40), BLUE), "PNG", transparency=BLUE), WHITE),
        (encoded(Image.fromarray(np.full((400, 400), 0x8000, np.uint16)), "PNG"), (128, 128, 128)),
        (encoded(Image.new("CMYK", (400, 400), (255, 255, 0, 0)), "JPEG", quality=100), BLUE),
        (encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "TIFF"), RED),
        (encoded(Image.new("L", (400, 400), 77), "JPEG"), (77, 77, 77)),
        (encoded(Image.new("1", (40, 40), 1), "PNG"), WHITE),
        (encoded(Image.new("RGB", (40, 40), GREEN), "BMP"), GREEN),
        (
            encoded(Image.new("RGB", (40, 40), RED), "GIF", save_all=True, append_images=[Image.new("RGB", (40, 40))]),
            RED,
        ),
    ],
)
def test_every_kind_of_pixel_looks_as_a_person_sees_it(data: bytes, seen: tuple[int, int, int]) -> None:
    image = decode_image(data, 24, 24)
    assert difference(image, np.broadcast_to(np.array(seen, np.uint8), image.shape)).max() <= 1


VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"subsampling": 0},
    {"subsampling": 1},
    {"progressive": True},
    {"quality": 30},
    {"restart_marker_blocks": 3},
    {"kind": "MPO", "save_all": True, "append_images": [Image.new("RGB", (9, 9))]},
)


@needs_simplejpeg
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: " ".join(options) or "usual")
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_both_decoders_agree(options: dict[str, Any], mode: str) -> None:
    for size in ((256, 256), (255, 301), (97, 64), (1000, 90), (17, 1)):
        data = encoded(photo().resize(size).convert(mode), **{"kind": "JPEG"} | options)
        for height, width in ((96, 96), (32, 32), (128, 90), (300, 300)):
            with pytest.MonkeyPatch.context() as patch:
                fast = decode_image(data, height, width)
                patch.setattr(decoding, "simplejpeg", None)
                assert difference(decode_image(data, height, width), fast).max() <= 2


def test_a_photo_that_fits_is_left_as_it_is(pillow_only: None) -> None:
    pixels = np.asarray(picture(32, 24))
    assert np.array_equal(decode_image(encoded(picture(32, 24), "PNG"), 24, 32), pixels)
    assert np.array_equal(fitted(pixels, 24, 32, "crop"), pixels)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 400), st.integers(1, 400), st.sampled_from(FITS))
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_shows_enough(
    width: int, height: int, wanted_width: int, wanted_height: int, fit: Fit
) -> None:
    layout = decoding._layout((width, height), (wanted_width, wanted_height), fit)

    def enough(eighths: int) -> bool:
        shown = layout.width * eighths / 8, layout.height * eighths / 8
        return all(size > wanted - 1 for size, wanted in zip(shown, layout.size, strict=True))

    chosen = decoding._eighths(layout)
    assert chosen in {1, 2, 3, 4, 8}
    assert chosen == 8 or enough(chosen)
    assert not any(enough(smaller) for smaller in (1, 2, 3, 4) if smaller < chosen)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}], ids=str)
@given(width=st.integers(1, 200), height=st.integers(1, 200))
def test_the_size_of_a_webp_is_read_from_its_header(options: dict[str, Any], width: int, height: int) -> None:
    assert headers.webp_size(encoded(Image.new("RGB", (width, height)), "WEBP", **options)) == (width, height)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(1, 40), st.sampled_from(FITS))
def test_any_size_becomes_any_other(width: int, height: int, wanted_width: int, wanted_height: int, fit: Fit) -> None:
    for kind in ("JPEG", "PNG"):
        data = encoded(Image.new("RGB", (width, height), (200, 200, 200)), kind)
        image = decode_image(data, wanted_height, wanted_width, fit=fit)
        assert image.shape == (wanted_height, wanted_width, 3)
        assert set(np.unique(image)) <= ({200} if fit != "pad" else {0, 200})


def test_padding_puts_black_bars_on_both_sides() -> None:
    image = decode_image(encoded(Image.new("RGB", (90, 30), RED), "PNG"), 30, 30, fit="pad")
    assert not image[:10].any()
    assert not image[20:].any()
    assert np.unique(image[10:20].reshape(-1, 3), axis=0).tolist() == [list(RED)]


@pytest.mark.parametrize(("option", "value"), [("height", 0), ("width", 1.5), ("fit", "cut")])
def test_mistakes_of_the_caller_are_not_blamed_on_the_image(option: str, value: Any) -> None:
    arguments: dict[str, Any] = {"height": 8, "width": 8, option: value}
    with pytest.raises(InputError, match=option):
        decode_image(encoded(picture(), "PNG"), **arguments)


# What is refused


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG of one bit a pixel, of any size, without its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + b"".join(chunks) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int, **options: Any) -> bytes:
    """A JPEG whose header claims another size."""
    data = encoded(picture(), "JPEG", **options)
    return data.replace(struct.pack(">HH", 200, 300), struct.pack(">HH", height, width))


def jpeg_of_many_scans(count: int, image: Image.Image) -> bytes:
    data = encoded(image, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + (count - data.count(b"\xff\xda") + 1) * data[last:-2] + data[-2:]


def tiff_of_many_numbers(count: int) -> bytes:
    """Its tag BitsPerSample claims to be very long, and is."""
    entries = [(0x100, 3, 1, 8), (0x101, 3, 1, 8), (0x102, 3, count, 200)]
    directory = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", *each) for each in entries) + bytes(4)
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(200, b"\0") + b"\1\0" * count


def gif_of_comments(size: int) -> bytes:
    data = encoded(Image.new("P", (9, 9)), "GIF")
    start = 13 + (3 << (data[10] & 7) + 1)
    return data[:start] + b"!\xfe" + (b"\xff" + b"c" * 255) * (size // 256) + b"\0" + data[start:]


CUT = encoded(picture(), "JPEG")
TOO_LARGE = png(20_000, 20_000)
UNUSABLE = {
    "empty": (b"", Cause.EMPTY),
    "web page": (b"\n<!DOCTYPE html><html>Not found</html>", Cause.NOT_AN_IMAGE),
    "text": (b"no such object", Cause.NOT_AN_IMAGE),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', Cause.UNKNOWN_FORMAT),
    "avif": (b"\0\0\0\x1cftypavif" + bytes(40), Cause.UNKNOWN_FORMAT),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Cause.UNKNOWN_FORMAT),
    "floating point": (encoded(Image.new("F", (4, 4)), "TIFF"), Cause.UNKNOWN_FORMAT),
    "two bytes": (b"\xff\xd8", Cause.TRUNCATED_IMAGE),
    "half a header": (CUT[:100], Cause.TRUNCATED_IMAGE),
    "half a jpeg": (CUT[: len(CUT) // 2], Cause.TRUNCATED_IMAGE),
    "half a png": (encoded(picture(), "PNG")[:9000], Cause.TRUNCATED_IMAGE),
    "half a webp": (encoded(picture(), "WEBP")[:900], Cause.DAMAGED_IMAGE),
    "webp without a size": (encoded(picture(), "WEBP")[:20], Cause.DAMAGED_IMAGE),
    "large webp": (b"RIFF\x99\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\x3f\0" * 2, Cause.TOO_MANY_PIXELS),
    "only a signature": (b"\x89PNG\r\n\x1a\n", Cause.DAMAGED_IMAGE),
    "jpeg without size": (jpeg_of_size(0, 10), Cause.DAMAGED_IMAGE),
    "jpeg without end of header": (b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000, Cause.DAMAGED_IMAGE),
    "400 megapixels": (TOO_LARGE, Cause.TOO_MANY_PIXELS),
    "a million wide": (png(1_000_000, 1_000_000), Cause.TOO_MANY_PIXELS),
    "jpeg of 4 gigapixels": (jpeg_of_size(65_500, 65_500), Cause.TOO_MANY_PIXELS),
    "tall png": (png(40, 1_250_001), Cause.TOO_MANY_PIXELS),
    "progressive": (jpeg_of_size(5000, 5000, progressive=True), Cause.TOO_COSTLY),
    "scans": (jpeg_of_many_scans(101, picture()), Cause.TOO_COSTLY),
    "scans of a large image": (jpeg_of_many_scans(21, Image.new("RGB", (3200, 3200))), Cause.TOO_COSTLY),
    "png that grows": (png(8, 8, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6)))] * 60), Cause.TOO_COSTLY),
    "tiff of a million numbers": (tiff_of_many_numbers(1_000_000), Cause.TOO_COSTLY),
    "gif of comments": (gif_of_comments(10_000_000), Cause.TOO_COSTLY),
    "slow ppm": (b"P3 2000 2000 255\n" + b"0 " * 100, Cause.TOO_COSTLY),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_refused_with_its_cause(name: str) -> None:
    data, cause = UNUSABLE[name]
    began = time.thread_time()
    with pytest.raises(SampleError) as caught:
        decode_image(data, 32, 32)
    assert caught.value.cause is cause
    assert 10 < len(caught.value.sentence) < 300
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize("name", ["two bytes", "half a jpeg", "jpeg without size"])
def test_pillow_alone_finds_the_same_causes(name: str, pillow_only: None) -> None:
    test_what_cannot_be_used_is_refused_with_its_cause(name)


def test_limits_are_exact_and_can_be_chosen() -> None:
    data = encoded(Image.new("RGB", (20, 10)), "PNG")
    assert decode_image(data, 5, 5, limits=DecodeLimits(max_pixels=200)).shape == (5, 5, 3)
    with pytest.raises(SampleError, match="more than 199 pixels"):
        decode_image(data, 5, 5, limits=DecodeLimits(max_pixels=199))
    with pytest.raises(SampleError, match="may take 1,000 bytes of memory; this would take") as caught:
        decode_image(data, 5, 5, limits=DecodeLimits(max_decode_bytes=1000))
    assert caught.value.cause is Cause.TOO_COSTLY
    with pytest.raises(InputError, match="max_pixels"):
        DecodeLimits(max_pixels=0)


SMALL = [
    *(encoded(picture(24, 18), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")),
    encoded(picture(24, 18), "JPEG", progressive=True),
    encoded(picture(24, 18).convert("CMYK"), "JPEG"),
    encoded(picture(24, 18).quantize(8), "PNG", transparency=1),
]


@given(st.data())
def test_no_bytes_raise_anything_but_a_sample_error(data: st.DataObject) -> None:
    good = bytearray(data.draw(st.sampled_from(SMALL)))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)) | st.just(len(good)))
    with suppress(SampleError):
        image = decode_image(bytes(good[:cut]), 8, 8, limits=DecodeLimits(100_000, 10_000_000))
        assert image.shape == (8, 8, 3)


@given(st.binary(max_size=80), st.sampled_from([b"", b"II*\0", b"MM\0*", b"Exif\0\0II*\0\x08\0\0\0"]))
def test_any_exif_gives_an_orientation(exif: bytes, start: bytes) -> None:
    assert headers.exif_orientation(start + exif) in range(1, 9)


# What it costs


def plain(mode: str, width: int, height: int, kind: str, **options: Any) -> bytes:
    return encoded(Image.new(mode, (width, height)), kind, **options)


# Each is a little below what is refused.
LARGEST = {
    "png": lambda: plain("RGB", 2950, 2950, "PNG"),
    "png with alpha": lambda: plain("RGBA", 2950, 2950, "PNG"),
    "palette": lambda: plain("P", 6000, 5800, "PNG"),
    "sixteen bits": lambda: plain("I;16", 4150, 4150, "PNG"),
    "webp": lambda: plain("RGB", 1460, 1460, "WEBP", method=0),
    "gif": lambda: plain("P", 6000, 5800, "GIF"),
    "tiff": lambda: plain("RGB", 1700, 1700, "TIFF", compression="tiff_lzw"),
    "jpeg": lambda: plain("RGB", 8000, 6250, "JPEG"),
    "progressive jpeg": lambda: plain("RGB", 3300, 3300, "JPEG", progressive=True),
    "cmyk jpeg": lambda: plain("CMYK", 8000, 6250, "JPEG"),
}
KINDS = ("PNG", "WEBP", "GIF", "TIFF", "JPEG")
# Prints the memory that four threads take for these files over what small ones of all kinds take, libraries and all.
PEAK = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from toolkit.streaming.decoding import decode_image
from toolkit.system import PeakMemory

files = [Path(name).read_bytes() for name in sys.argv[1:]]
with ThreadPoolExecutor(4) as pool:
    small = list(pool.map(lambda data: decode_image(data, 96, 96), files[:{len(KINDS)}] * 9))
    peak = PeakMemory()
    large = list(pool.map(lambda data: decode_image(data, 96, 96), files[{len(KINDS)}:]))
print(peak.read() - peak.before)
"""


@pytest.mark.once
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_the_largest_images_stay_within_the_limit_in_any_number_of_threads(tmp_path: Path) -> None:
    names = ["png", "png", "png", *LARGEST]
    made = {kind: encoded(picture(), kind) for kind in KINDS} | {name: LARGEST[name]() for name in LARGEST}
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    order = [str(tmp_path / name) for name in (*KINDS, *names)]
    answer = subprocess.run([sys.executable, "-c", PEAK, *order], capture_output=True, text=True, check=True)
    assert int(answer.stdout) <= 1.1 * DecodeLimits().max_decode_bytes


@pytest.mark.parametrize("name", sorted(set(LARGEST) - {"jpeg", "cmyk jpeg"}))
def test_larger_ones_are_refused(name: str) -> None:
    with pytest.raises(SampleError) as caught:
        decode_image(LARGEST[name](), 8, 8, limits=DecodeLimits(max_decode_bytes=34_000_000))
    assert caught.value.cause is Cause.TOO_COSTLY


def test_large_images_are_decoded_one_after_the_other_and_small_ones_meanwhile() -> None:
    busy = threading.Event()
    first = decoding._large.submit(busy.wait, 60)
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(decode_image, encoded(Image.new("RGB", (1500, 1000)), "PNG"), 32, 32)
            assert decode_image(encoded(picture(), "PNG"), 32, 32).shape == (32, 32, 3)
            assert decode_image(encoded(picture(4000, 3000), "JPEG"), 32, 32).shape == (32, 32, 3)
            assert not waiting.done()
            busy.set()
            assert waiting.result(timeout=60).shape == (32, 32, 3)
    finally:
        busy.set()
    assert first.result(timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_child_decodes_large_images_too() -> None:
    code = """
        import io, os
        from PIL import Image
        from toolkit.streaming.decoding import decode_image
        file = io.BytesIO()
        Image.new("RGB", (1500, 1000)).save(file, "PNG")
        decode_image(file.getvalue(), 8, 8)
        child = os.fork()
        decode_image(file.getvalue(), 8, 8)
        if not child:
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.split() == ["7"]


# Pillow's warnings


def test_pillow_is_quiet_and_nobody_else() -> None:
    said = []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with pillow.quiet_pillow(), pillow.quiet_pillow():
            warnings.warn("mine", stacklevel=1)
            warnings.warn_explicit("Pillow's", UserWarning, "Image.py", 1, module="PIL.Image")
        assert warnings.filters == before
        said = [str(each.message) for each in heard]
    assert said == ["mine"]


def test_decoding_in_many_threads_leaves_the_warning_filters_alone() -> None:
    before = list(warnings.filters)
    start = threading.Barrier(8)

    def decode(_: int) -> Pixels:
        start.wait()
        return decode_image(SMALL[1], 8, 8)

    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(decode, range(8)))
    assert warnings.filters == before
    assert all(np.array_equal(image, images[0]) for image in images)
