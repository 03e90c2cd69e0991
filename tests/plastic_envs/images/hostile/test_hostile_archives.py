"""Archives and the arrays in them that are damaged or made to do harm."""

import gzip
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest

from plastic_envs.images import CIFARFS, ArrayFile, Omniglot, reading
from tests.plastic_envs.image_files import (
    SMALL1,
    drawing,
    labelled,
    omniglot_archive,
    tar_of_cifar100,
)
from tests.plastic_envs.images.hostile.bounds import MIB, refused

pytestmark = pytest.mark.usefixtures("cache")


def zeros(size):
    """Compressed zeros, without a header: a mebibyte takes a kilobyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return piece * (size // MIB) + packer.flush()


def zip_of_zeros(path, names, size, declared):
    """An archive whose members unpack to zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.writestr(name, zeros(size))
        for member in archive.filelist:
            member.compress_type, member.file_size = zipfile.ZIP_DEFLATED, declared
    content = bytearray(path.read_bytes())
    start = -1
    while (start := content.find(b"PK\x03\x04", start + 1)) >= 0:
        content[start + 8 : start + 10] = struct.pack("<H", zipfile.ZIP_DEFLATED)
    path.write_bytes(content)


@pytest.mark.parametrize("declared", [1_000, 2**32 - 2])
def test_gigabytes_of_zeros_in_an_array_file(root, declared):
    path = root / "images.npz"
    zip_of_zeros(path, ["images.npy", "labels.npy"], 4_096 * MIB, declared)
    assert path.stat().st_size < 10 * MIB
    refused(lambda: ArrayFile(path).load("train"), path)


def test_arrays_may_be_larger_than_their_file_within_limits(root, monkeypatch):
    path = root / "images.npz"
    np.savez_compressed(path, images=np.zeros((3, 1_000, 1_000), np.uint8), labels=[0, 1, 2])
    assert ArrayFile(path).load("test").num_classes == 1
    monkeypatch.setattr(reading, "_UNPACKED", MIB)
    np.savez_compressed(path, images=np.zeros((3, 1_001, 1_000), np.uint8), labels=[0, 1, 2])
    refused(lambda: ArrayFile(path).load("test"), path, "more than the 1,048,576 that are read")


@pytest.mark.parametrize("declared", [1_000, 2**32 - 2])
def test_gigabytes_of_zeros_in_omniglot(root, declared):
    path = root / "images_background_small1.zip"
    name = f"{path.stem}/Latin/character01/0001_01.png"
    zip_of_zeros(path, [name], 4_096 * MIB, declared)
    refused(lambda: Omniglot(root).load("train"), path)


def test_many_drawings_that_are_the_same_bytes(root, monkeypatch):
    monkeypatch.setattr("plastic_envs.images.sources.omniglot._MOST_ALL", 10_000)
    path = root / "images_background_small1.zip"
    names = [f"{path.stem}/Latin/character01/0001_{i:02}.png" for i in range(30)]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, drawing(1) + bytes(500))
    refused(lambda: Omniglot(root).load("train"), path, "that are read")


def gzip_of(path, start, gibibytes):
    piece = gzip.compress(bytes(MIB), 9)
    path.write_bytes(gzip.compress(start) + piece * (1_024 * gibibytes))


@pytest.mark.parametrize("name", ["train", "other"])
@pytest.mark.parametrize("declared", [1_000, 8 * 1_024 * MIB - 1])
def test_gigabytes_of_zeros_in_cifar100(root, name, declared, monkeypatch):
    monkeypatch.setattr("plastic_envs.images.sources.cifar100._MOST_UNPACKED", 64 * MIB)
    member = tarfile.TarInfo(f"cifar-100-python/{name}")
    member.size = declared
    path = root / "cifar-100-python.tar.gz"
    gzip_of(path, member.tobuf(tarfile.USTAR_FORMAT), 8)
    refused(lambda: CIFARFS(root).load("train"), path, seconds=60)


TARS = {
    "cut": lambda content: content[:700],
    "no end": lambda content: content[: content.rindex(b"meta")],
    "bad sum": lambda content: content.replace(b"ustar", b"xstar"),
    "negative size": lambda content: content[:124] + b"-0000000001\0" + content[136:],
    "size in base 256": lambda content: content[:124] + b"\x80" + b"\xff" * 11 + content[136:],
    "not a number": lambda content: content[:124] + b"0x_12345678\0" + content[136:],
    "nothing": lambda content: b"",
    "zeros": lambda content: bytes(10_240),
    "twice": lambda content: content[: content.index(b"cifar-100-python/train")] + content,
}


@pytest.mark.parametrize("kind", TARS)
@pytest.mark.parametrize("packed", [False, True])
def test_hostile_tar_archives(root, tmp_path, kind, packed):
    content = TARS[kind](tar_of_cifar100(tmp_path))
    path = root / "cifar-100-python.tar.gz"
    path.write_bytes(gzip.compress(content) if packed else content)
    refused(lambda: CIFARFS(root).load("train"), path)


def npy(header, content=b"", version=b"\x01\x00"):
    padded = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(padded)) + padded + content


FORM = "{'descr': '|u1', 'fortran_order': False, 'shape': %s}"
HEADERS = {
    "not closed": npy("{'descr': '|u1', 'shape': (("),
    "deep": npy("(" * 5_000),
    "long": npy("1," * 30_000),
    "huge shape": npy(FORM % "(10000000000, 8, 8)"),
    "endless shape": npy(FORM % f"({10**400}, 8, 8)"),
    "zero times huge": npy(FORM % f"(0, {10**30})"),
    "negative shape": npy(FORM % "(-1, -8, 8)", bytes(64)),
    "true shape": npy(FORM % "(True, 8, 8)", bytes(64)),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"\x80\x02N."),
    "structures": npy("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1,)}", b"x"),
    "no width": npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1,)}"),
    "endless width": npy("{'descr': '<U999999999', 'fortran_order': False, 'shape': (1,)}"),
    "another version": npy(FORM % "(1, 8, 8)", bytes(64), b"\x02\x00"),
    "future version": npy(FORM % "(1, 8, 8)", bytes(64), b"\x09\x09"),
    "too short": npy(FORM % "(30, 5, 6)", bytes(9)),
    "too long": npy(FORM % "(30, 5, 6)", bytes(10_000)),
    "nothing": b"",
    "text": b"hello",
    "bad unicode": npy("{'descr': '<U1', 'fortran_order': False, 'shape': (30,)}", b"\xff" * 120),
}


@pytest.mark.parametrize("name", ["images", "labels"])
@pytest.mark.parametrize("kind", HEADERS)
def test_hostile_arrays(root, name, kind):
    path = root / "images.npz"
    images, labels = labelled()
    np.savez(
        path, **{key: v for key, v in {"images": images, "labels": labels}.items() if key != name}
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", HEADERS[kind])
    refused(lambda: ArrayFile(path).load("train"), path)


def altered(change):
    """A change of the list of members, as `writestr` wrote it."""

    def make(path):
        with zipfile.ZipFile(path, "a") as archive:
            for member in archive.filelist:
                change(member)
            archive.comment = b"changed"  # so that the list is written anew

    return make


def encrypted(member):
    member.flag_bits |= 1


ARCHIVES = {
    "encrypted": altered(encrypted),
    "lzma": altered(lambda member: setattr(member, "compress_type", zipfile.ZIP_LZMA)),
    "bzip2": altered(lambda member: setattr(member, "compress_type", zipfile.ZIP_BZIP2)),
    "unknown": altered(lambda member: setattr(member, "compress_type", 99)),
    "deflated": altered(lambda member: setattr(member, "compress_type", zipfile.ZIP_DEFLATED)),
    "bad checksum": altered(lambda member: setattr(member, "CRC", 1)),
    "elsewhere": altered(lambda member: setattr(member, "header_offset", 10**6)),
    "future": altered(lambda member: setattr(member, "extract_version", 99)),
    "too long": altered(lambda member: setattr(member, "file_size", 10**6)),
    "too short": altered(lambda member: setattr(member, "file_size", 10)),
    "nothing packed": altered(lambda member: setattr(member, "compress_size", 0)),
}


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("source", [ArrayFile, Omniglot])
def test_hostile_zip_archives(root, source, kind):
    if source is ArrayFile:
        path = root / "images.npz"
        np.savez(path, images=labelled()[0], labels=labelled()[1])
        place = path
    else:
        path, place = root / "images_background_small1.zip", root
        omniglot_archive(path, SMALL1)
    ARCHIVES[kind](path)
    refused(lambda: source(place).load("train"), path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_archives_packed_in_ways_whose_memory_is_not_bounded(root, method):
    path = root / "images_background_small1.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(f"{path.stem}/Latin/character01/0001_01.png", drawing(1))
    refused(lambda: Omniglot(root).load("train"), path, "packed in a way that is not read")


def test_an_archive_with_an_endless_list_of_members(root, monkeypatch):
    path = root / "images_background_small1.zip"
    omniglot_archive(path, SMALL1, characters=10, drawings=5)
    monkeypatch.setattr(reading, "_DIRECTORY", 2**13)
    refused(lambda: Omniglot(root).load("train"), path, "at once")
