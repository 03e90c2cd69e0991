"""Pictures that are damaged or made to do harm, and more of them than there is room for."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from plastic_envs.images import ArrayFile, Folders, Omniglot
from tests.plastic_envs.image_files import SMALL1, class_folders, labelled, omniglot_archive
from tests.plastic_envs.images.hostile.bounds import MIB, refused

pytestmark = pytest.mark.usefixtures("cache")


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width, height, *chunks, pixels=b""):
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(pixels))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + body + chunk(b"IEND", b"")
    )


def jpeg(*segments):
    content = io.BytesIO()
    Image.new("L", (8, 6)).save(content, "JPEG")
    return content.getvalue()[:2] + b"".join(segments) + content.getvalue()[2:]


def many_scans():
    """A photograph that tells its last details six hundred times."""
    content = io.BytesIO()
    Image.new("L", (2_000, 2_000)).save(content, "JPEG", progressive=True)
    whole = content.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * 600 + whole[-2:]


PIXELS = bytes(9) * 6  # of 6 rows of 8 pixels
PACKED = zlib.compress(bytes(100 * MIB))
ENTRIES = b"MM\0*\0\0\0\x08" + struct.pack(">H", 60_000)
ENTRIES += b"".join(struct.pack(">HHII", 40_000 + i % 9, 1, 600_000, 8) for i in range(60_000))

PICTURES = {
    "too many pixels": png(60_000, 60_000),
    "twice too many pixels": png(12_000, 12_000),
    "a width of millions": png(2**31 - 1, 1),
    "no pixels": png(0, 0),
    "cut": png(8, 6, pixels=PIXELS[:20]),
    "notes that name themselves": png(8, 6, chunk(b"eXIf", ENTRIES), pixels=PIXELS),
    "text of gigabytes": png(8, 6, chunk(b"zTXt", b"a\0\0" + PACKED), pixels=PIXELS),
    "profile of gigabytes": png(8, 6, chunk(b"iCCP", b"a\0\0" + PACKED)),
    "many scans": many_scans(),
    "many notes": jpeg(*[b"\xff\xe1\0\x09Exif\0\0x"] * 100_000),
    "bitmap of gigabytes": b"BM"
    + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 50_000, 50_000, 1, 24, *[0] * 6),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("kind", PICTURES)
def test_hostile_images(root, kind):
    class_folders(root)
    path = root / "class 2" / "1.png"
    path.write_bytes(PICTURES[kind])
    limits = {"many notes": "more than 64 parts", "notes that name themselves": "than 65,536 bytes"}
    message = f"cannot be read as an image.*{limits.get(kind, '')}"
    refused(lambda: Folders(root).load("train"), path, message)


def test_images_that_would_take_too_much_memory_together(root, monkeypatch):
    class_folders(root)
    monkeypatch.setattr("plastic_envs.images.sources.folders.MOST_IMAGES", 200)
    with pytest.raises(ValueError, match=r"6 images 6×8×1 need more than the 200 bytes"):
        Folders(root).load("train")
    assert Folders(root, size=5).load("train").image_shape == (5, 5, 1)
    omniglot_archive(root / "images_background_small1.zip", SMALL1)
    with pytest.raises(ValueError, match=r"8 images 7×7×1 need more"):
        Omniglot(root, size=7).load("train")


@pytest.mark.parametrize("source", [Folders, Omniglot, ArrayFile])
def test_a_lack_of_memory_is_an_error_of_the_file(root, monkeypatch, source):
    """As when a process may have little: what is not large by itself is too large then."""

    def no_memory(*_, **__):
        raise MemoryError

    class_folders(root)
    omniglot_archive(root / "images_background_small1.zip", SMALL1)
    np.savez(root / "x.npz", images=labelled()[0], labels=labelled()[1])
    monkeypatch.setattr(np, "concatenate", no_memory)
    monkeypatch.setattr(np, "empty", no_memory)
    place = root / "x.npz" if source is ArrayFile else root
    refused(lambda: source(place).load("train"), root, "MemoryError")
