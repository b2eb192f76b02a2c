"""What the header of an image file tells before its pixels are touched: sizes, orientation, what decoding will hold.

Files from the internet may be made to exhaust a decoder (a progressive JPEG of 10,000 scans, a TIFF tag of a million
numbers), so these few fields are read here, by code whose work is bounded.
"""

from math import ceil
from struct import error as StructError  # noqa: N812
from struct import iter_unpack, unpack_from
from typing import NamedTuple

from toolkit.streaming.failures import Cause, SampleError

ORIENTATION = 0x0112
"""The EXIF tag (TIFF 6.0, Orientation) that says how a photo has to be turned to stand upright, from 1 to 8."""

_MOST_SEGMENTS = 1_000  # real files have about ten before their pixels
_STANDALONE = {0x00, 0x01, *range(0xD0, 0xD9)}  # markers without a body, and a stuffed byte
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = {0xC0, 0xC1}


class JpegHeader(NamedTuple):
    """A JPEG up to its first scan.

    width, height: pixels as stored, before the turn that `orientation` asks for. components: 1 grey, 3 colour, 4 CMYK.
    kept_bytes: memory for its coefficients, which a decoder keeps when they come in several scans; else 0.
    scans: how many there are if they are kept; else 1.
    """

    width: int
    height: int
    components: int
    orientation: int
    kept_bytes: int
    scans: int


class _Frame(NamedTuple):
    marker: int
    height: int
    width: int
    sampling: bytes  # one byte for each component: horizontal factor in the upper four bits, vertical in the lower


def read_jpeg_header(data: bytes) -> JpegHeader:
    """The header of a JPEG (ITU-T T.81, annex B). Raises SampleError for one that is cut off or damaged."""
    try:
        return _read_jpeg_header(data)
    except (StructError, IndexError):
        raise SampleError(
            Cause.TRUNCATED_IMAGE, f"a whole JPEG was expected; its {len(data):,} bytes end before its pixels begin"
        ) from None


def _read_jpeg_header(data: bytes) -> JpegHeader:
    frame, orientation, position = None, 1, 2
    for _ in range(_MOST_SEGMENTS):
        marker = data[position + 1]
        if data[position] != 0xFF or marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = unpack_from(">H", data, position + 2)
        body = position + 4
        if marker == 0xDA:
            return _header(frame, orientation, data, position)
        if marker in _FRAMES:
            frame = _frame(marker, data, body)
        elif marker == 0xE1 and data[body : body + 6] == b"Exif\0\0":
            orientation = exif_orientation(data[body : body + length])
        position += 2 + length
    raise SampleError(Cause.DAMAGED_IMAGE, f"a JPEG was expected; it has more than {_MOST_SEGMENTS:,} segments")


def _frame(marker: int, data: bytes, body: int) -> _Frame:
    height, width, components = unpack_from(">HHB", data, body + 1)
    return _Frame(marker, height, width, data[body + 7 : body + 6 + 3 * components : 3])


def _header(frame: _Frame | None, orientation: int, data: bytes, scan: int) -> JpegHeader:
    if frame is None or not frame.sampling or not frame.width * frame.height:
        raise SampleError(Cause.DAMAGED_IMAGE, "a JPEG was expected; its header does not say how large it is")
    components = len(frame.sampling)
    kept = not (frame.marker in _SEQUENTIAL and data[scan + 4] == components)
    scans = data.count(b"\xff\xda", scan) if kept else 1
    return JpegHeader(
        frame.width, frame.height, components, orientation, _coefficient_bytes(frame) if kept else 0, scans
    )


def _coefficient_bytes(frame: _Frame) -> int:
    """Two bytes for each coefficient of each component, whole minimum coded units (T.81, A.2)."""
    factors = [(each >> 4 or 1, each & 15 or 1) for each in frame.sampling]
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    units = ceil(frame.width / (8 * across)) * ceil(frame.height / (8 * down))
    return units * sum(128 * h * v for h, v in factors)


def exif_orientation(exif: bytes) -> int:
    r"""The orientation in a block of EXIF, from 1 to 8; 1, which is upright, where it says nothing or is damaged.

    >>> exif_orientation(b"MM\0*" + bytes([0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0]))
    6
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    found = [value for tag, _, _, value in _entries(tiff, order) if tag == ORIENTATION and 1 <= value <= 8]
    return found[0] if found else 1


def _entries(tiff: bytes, order: str) -> list[tuple[int, int, int, int]]:
    """(tag, type, count, first short of its value) of the first directory (TIFF 6.0, section 2)."""
    try:
        (start,) = unpack_from(f"{order}I", tiff, 4)
        (count,) = unpack_from(f"{order}H", tiff, start)
    except StructError:
        return []
    whole = tiff[start + 2 : start + 2 + 12 * count]
    return list(iter_unpack(f"{order}HHIH2x", whole[: len(whole) // 12 * 12]))


def metadata_bytes(data: bytes) -> int:
    r"""Memory, in bytes, that Pillow may need for what a PNG, TIFF, GIF or WebP file says about itself.

    >>> metadata_bytes(b"\x89PNG" + 3 * b"zTXt")
    3145728
    """
    match data[:4]:
        case b"\x89PNG":  # compressed text may grow to a megabyte a piece (Pillow's MAX_TEXT_CHUNK)
            return (data.count(b"zTXt") + data.count(b"iTXt")) << 20
        case b"II*\0" | b"MM\0*" | b"II+\0" | b"MM\0+":
            return 40 * _tiff_numbers(data)
        case b"GIF8":  # Pillow joins comments piece by piece, in quadratic time
            return 20 * _gif_start(data)
        case b"RIFF":
            return 200 * data.count(b"ANMF")
    return 0


def _tiff_numbers(data: bytes) -> int:
    """How many numbers the tags of a TIFF hold that become Python objects; text and bytes do not."""
    order = "<" if data.startswith(b"I") else ">"
    return sum(count for _, kind, count, _ in _entries(data, order) if kind not in {1, 2, 6, 7})


def _gif_start(data: bytes) -> int:
    """Where the first picture of a GIF begins (GIF89a specification, section 18 ff.)."""
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while data[position : position + 1] == b"!":
        position += 2
        while data[position : position + 1] not in {b"", b"\0"}:
            position += data[position] + 1
        position += 1
    return position


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP (RFC 9649, section 2), read here because Pillow's decoder takes memory for it at once.

    Raises SampleError for one that is cut off or damaged.
    """
    match data[12:16]:
        case b"VP8X" if len(data) >= 30:
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L" if len(data) >= 25:
            bits = int.from_bytes(data[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 " if len(data) >= 30:
            width, height = unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
    raise SampleError(Cause.DAMAGED_IMAGE, "a WebP image was expected; its header is damaged or cut off")
