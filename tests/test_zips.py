"""Zips that somebody made to harm, or by mistake: each is a sentence, and nothing of it is left."""

import io
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.errors import InputError
from toolkit.zips import ZipLimits, new_folder, unpack_zip

SMALL = ZipLimits(files=10, bytes=10_000, file_bytes=4_000)


def zipped(*members: tuple[str, bytes], packing: int = zipfile.ZIP_DEFLATED, **options: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = packing
            for option, value in options.items():
                setattr(info, option, value)
            archive.writestr(info, data)
    return file.getvalue()


def lying() -> bytes:
    """A zip that says of 8,000 bytes that they are ten, in both of its headers."""
    data = zipped(("cats/1.jpg", bytes(8_000)))
    return data.replace(struct.pack("<I", 8_000), struct.pack("<I", 10))


def encrypted() -> bytes:
    data = bytearray(zipped(("cats/1.jpg", b"photo")))
    data[6] |= 1  # the flag in the local header
    data[data.index(b"PK\1\2") + 8] |= 1  # and in the directory
    return bytes(data)


def damaged() -> bytes:
    data = bytearray(zipped(("cats/1.jpg", bytes(range(200)))))
    data[60] ^= 0xFF
    return bytes(data)


def unknown_packing() -> bytes:
    data = bytearray(zipped(("cats/1.jpg", b"photo")))
    data[8] = 97
    data[data.index(b"PK\1\2") + 10] = 97
    return bytes(data)


def wide_directory() -> bytes:
    """A zip whose record of 64 bits says that its directory has a gigabyte, and whose last record says nothing."""
    data = bytearray(zipped(("cats/1.jpg", b"photo")))
    end = data.index(b"PK\5\6")
    data[end + 12 : end + 20] = b"\xff" * 8
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 10**9, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    return bytes(data[:end] + record + locator + data[end:])


def cut_name() -> bytes:
    """A name that Python ends at its zero byte, and others do not."""
    return zipped(("cats/1.jpgX.exe", b"photo")).replace(b"1.jpgX.exe", b"1.jpg\0.exe")


def link() -> bytes:
    return zipped(("cats/1.jpg", b"/etc/passwd"), external_attr=0o120777 << 16)


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is damaged or is none"),
    "text": (b"no zip at all", "is damaged or is none"),
    "a beginning only": (zipped(("cats/1.jpg", bytes(300)))[:40], "is damaged or is none"),
    "damaged data": (damaged(), "is damaged or is none"),
    "no files": (zipped(), "the zip file holds no files"),
    "folders only": (zipped(("cats/", b"")), "the zip file holds no files"),
    "hidden files only": (zipped(("__MACOSX/cats/1.jpg", b"x"), ("cats/.DS_Store", b"x")), "holds no files"),
    "up": (zipped(("../1.jpg", b"x")), "'../1.jpg' in the zip file is no plain name inside a folder"),
    "up inside": (zipped(("cats/../../1.jpg", b"x")), "no plain name"),
    "absolute": (zipped(("/etc/1.jpg", b"x")), "no plain name"),
    "a drive": (zipped(("C:/1.jpg", b"x")), "no plain name"),
    "backslashes": (zipped(("cats\\..\\..\\1.jpg", b"x")), "no plain name"),
    "a device": (zipped(("cats/NUL.jpg", b"x")), "no plain name"),
    "a space at the end": (zipped(("cats /1.jpg", b"x")), "no plain name"),
    "a dot alone": (zipped(("cats/./1.jpg", b"x")), "no plain name"),
    "two slashes": (zipped(("cats//1.jpg", b"x")), "no plain name"),
    "a zero byte": (cut_name(), "no plain name"),
    "a line break": (zipped(("cats/1\n.jpg", b"x")), "no plain name"),
    "a long name": (zipped((f"cats/{'x' * 300}.jpg", b"x")), "no plain name"),
    "a deep name": (zipped(("/".join("x" * 30), b"x")), "no plain name"),
    "a link": (link(), "is a link or a device"),
    "encrypted": (encrypted(), "is encrypted"),
    "unknown packing": (unknown_packing(), "is packed in an unusual way"),
    "bzip2": (zipped(("cats/1.jpg", bytes(900)), packing=zipfile.ZIP_BZIP2), "is packed in an unusual way"),
    "lzma": (zipped(("cats/1.jpg", bytes(900)), packing=zipfile.ZIP_LZMA), "is packed in an unusual way"),
    "a long directory": (zipped(*((f"cats/{i}/", b"") for i in range(200))), "its directory alone has"),
    "a long directory of 64 bits": (wide_directory(), "its directory alone has"),
    "many files": (zipped(*((f"cats/{i}.jpg", b"x") for i in range(11))), "a zip of at most 10 files was expected"),
    "many folders": (zipped(*((f"cats/{i}/", b"") for i in range(30))), "it has 30 entries"),
    "a large file": (zipped(("cats/1.jpg", bytes(5_000))), "has more than 4,000 bytes"),
    "large in all": (zipped(*((f"cats/{i}.jpg", bytes(3_900)) for i in range(4))), "more than 10,000 bytes"),
    "a lie about the size": (lying(), "is damaged or is none"),
    "twice": (zipped(("cats/1.jpg", b"x"), ("CATS/1.JPG", b"y")), "comes twice"),
    "a file and a folder": (zipped(("cats", b"x"), ("cats/1.jpg", b"y")), "is a file and a folder"),
}


GOOD = zipped(("cats/1.jpg", bytes(range(200))), ("cats/2.jpg", b"photo" * 50), ("dogs/1.jpg", b"another"))


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_bad_zip_is_a_sentence_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    data, sentence = BAD[name]
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(InputError) as caught:
        unpack_zip(io.BytesIO(data), home / "photos", SMALL)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(home.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"home"}


@given(data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_damage_anywhere_is_a_sentence_and_leaves_nothing(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever bytes are changed, all of it comes or nothing does."""
    broken = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path / "photos"
    told = ""
    try:
        unpack_zip(io.BytesIO(broken), folder, SMALL)
    except InputError as error:
        told = str(error)
    assert "\n" not in told
    assert list(tmp_path.iterdir()) == ([] if told else [folder])
    shutil.rmtree(folder, ignore_errors=True)


def test_overlapping_files_are_counted_as_often_as_they_come(tmp_path: Path) -> None:
    """Many entries in the directory for the same bytes: small as a file, large as what comes out."""
    one = zipped(("cats/0.jpg", bytes(3_900)))
    start, end = one.index(b"PK\1\2"), one.index(b"PK\5\6")
    entry = one[start:end]
    entries = b"".join(entry.replace(b"cats/0.jpg", f"cats/{i}.jpg".encode()) for i in range(9))
    tail = bytearray(one[end:])
    tail[8:12] = struct.pack("<HH", 9, 9)
    tail[12:16] = struct.pack("<I", len(entries))
    with pytest.raises(InputError):
        unpack_zip(io.BytesIO(one[:start] + entries + tail), tmp_path / "photos", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_good_zip_is_unpacked_without_what_systems_add(tmp_path: Path) -> None:
    names = ("cats/1.jpg", "dögs/größe 2.jpg", "__MACOSX/cats/._1.jpg", "cats/.DS_Store", "Thumbs.db")
    path = tmp_path / "photos.zip"
    path.write_bytes(zipped(*((name, name.encode()) for name in names)))
    folder = unpack_zip(path, tmp_path / "new" / "photos")
    found = {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}
    assert found == {name: name for name in names[:2]}
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["photos"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder / "missing.zip", "there is no file"),
        (lambda folder: folder, "cannot be unpacked"),
    ],
)
def test_no_file_is_a_sentence(tmp_path: Path, make: Callable[[Path], Path], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        unpack_zip(make(tmp_path), tmp_path / "photos")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="exists already; give the name of a new folder"):
        unpack_zip(io.BytesIO(zipped(("a/1.jpg", b"x"))), tmp_path / "photos")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "a") as part:
            (part / "half").touch()
            assert not (tmp_path / "a").exists()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "a") as part:
        (part / "whole").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["whole"]


def test_limits_are_whole_numbers() -> None:
    with pytest.raises(InputError, match="file_bytes must be at least 1"):
        ZipLimits(file_bytes=0)
