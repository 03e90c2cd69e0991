"""Files that are damaged or made to do harm: a result, or one error that names the file, soon.

Each is tried within a bound on time and on memory as Python and NumPy take it.
"""

import gzip
import io
import os
import pickle
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from plastic_envs.images import (
    CIFARFS,
    ArrayFile,
    Folders,
    MiniImageNet,
    Omniglot,
    pickles,
    reading,
)
from plastic_envs.images.pickles import load_pickle
from tests.plastic_envs.image_files import (
    SMALL1,
    cifar100,
    class_folders,
    drawing,
    labelled,
    omniglot_archive,
)

pytestmark = pytest.mark.usefixtures("cache")

MIB = 2**20


@contextmanager
def bounded(seconds=20, memory=64 * MIB):
    """Fail if more time or memory is taken; generous, since machines are slow and shared."""
    start = time.process_time()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < seconds


def refused(read, path, message=None, **bounds):
    """See that a reader refuses a file, with a short error that names it."""
    with bounded(**bounds), pytest.raises((ValueError, OSError), match=message) as caught:
        read()
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 2_000


# Pickles


def text(content):
    return b"X" + struct.pack("<I", len(content)) + content


def nested(depth, start=b"]"):
    """A tuple of a tuple twice, of a tuple twice, …: written in 2 bytes for each depth."""
    return start + b"2\x86" * depth


def data(labels):
    """What is of the form of a data set but for its labels."""
    content = pickle.dumps({"data": np.zeros((2, 4, 4, 3), np.uint8)}, 2)[:-1]
    return content + text(b"labels") + labels + b"s."


NUMPY = b"cnumpy.core.multiarray\n"
DTYPE = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
ARRAY = NUMPY + b"_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
LATIN1 = b"c_codecs\nencode\n"
BIG = text(b"x" * MIB)

PICKLES = {
    "key of shared tuples": b"}" + nested(40, b")") + b"Ns.",
    "key of deep tuples": b"}" + b")" + b"\x85" * 20_000 + b"Ns.",
    "set of shared tuples": b"\x8f(" + nested(40, b")") + b"\x90.",
    "frozen set of shared tuples": b"(" + nested(40, b")") + b"\x91.",
    "set made of shared tuples": b"c__builtin__\nset\n(](" + nested(40, b")") + b"etR.",
    "dictionary of shared tuples": b"(" + nested(40, b")") + b"Nd.",
    "ordered dictionary": b"ccollections\nOrderedDict\n(](](" + nested(40, b")") + b"NeetR.",
    "ordered dictionary of pairs of texts": b"ccollections\nOrderedDict\n(](U\x02abetR.",
    "order of shared tuples": DTYPE + b"(K\x03" + nested(40, b")") + b"NNNJ\xff\xff\xff\xfftb.",
    "shape of shared tuples": ARRAY + b"(K\x01" + nested(40, b")") + DTYPE + b"\x89U\x00tb.",
    "codec of shared tuples": LATIN1 + b"(U\x01x" + nested(40, b")") + b"tR.",
    "a function as key": b"}c__builtin__\nset\nNs.",
    "bytes of a number": b"c__builtin__\nbytes\n(J\x00\x00\x00\x7ftR.",
    "bytes of a long number": b"cbuiltins\nbytes\n(L2400000000L\ntR.",
    "set of bytes": b"c__builtin__\nset\n(" + text(b"x" * 9) + b"tR.",
    "set of a range": b"c__builtin__\nset\n(cbuiltins\nrange\n(J\xff\xff\xff\x7ftRtR.",
    "complex of text": b"cbuiltins\ncomplex\n(U\x011tR.",
    "complex of a huge number": b"cbuiltins\ncomplex\n(\x8a\xff" + b"\x7f" * 255 + b"K\x00tR.",
    "complex keys": b"}cbuiltins\ncomplex\n(K\x01K\x01tRNs.",
    "colliding keys": b"}("
    + b"".join(
        b"\x8a\x0b" + (k * (2**61 - 1)).to_bytes(11, "little") + b"N" for k in range(20_000)
    )
    + b"u.",
    "text of a huge length": b"\x8d" + struct.pack("<Q", 2**63 - 1) + b"x.",
    "bytes of a huge length": b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "array of bytes of a huge length": b"\x96" + struct.pack("<Q", 2**36) + b"x.",
    "string of a negative length": b"T\xff\xff\xff\xffx.",
    "number of a negative length": b"\x8b\xff\xff\xff\xff.",
    "number of a huge length": b"\x8b\xff\xff\xff\x7f.",
    "huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "number of many digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "long number of many digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "float of many digits": b"F" + b"9" * 1_000_000 + b"\n.",
    "float that is none": b"Fx\n.",
    "many instructions": b"N0" * 20_000 + b"N.",
    "many sets": b"\x8f" * 40_000,
    "many marks": b"(" * 30_000 + b".",
    "text made over and over": LATIN1
    + b"p0\n0"
    + BIG
    + b"q\x01"
    + b"h\x00h\x01\x85R" * 3_000
    + b".",
    "set made over and over": b"c__builtin__\nset\nq\x00](" + b"K\x01" * 10_000 + b"e"
    b"q\x01" + b"h\x00h\x01\x85R" * 3_000 + b".",
    "array of a huge shape": ARRAY + b"(K\x01(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"
    + DTYPE
    + b"\x89U\x00tb.",
    "array of no bytes and a huge side": ARRAY
    + b"(K\x01(K\x00\x8a\x0a" + b"\x7f" * 10 + b"t"
    + DTYPE
    + b"\x89U\x00tb.",
    "array of a negative shape": ARRAY + b"(K\x01(J\xff\xff\xff\xffJ\xff\xff\xff\xfft"
    + DTYPE
    + b"\x89U\x01xtb.",
    "array of many dimensions": ARRAY
    + b"(K\x01("
    + b"K\x01" * 3_000
    + b"t"
    + DTYPE
    + b"\x89U\x01xtb.",
    "array of a false shape": ARRAY + b"(K\x01(F1\nt" + DTYPE + b"\x89U\x01xtb.",
    "array of a foreign dtype": ARRAY + b"(K\x01(K\x01t" + text(b"u1") + b"\x89U\x01xtb.",
    "array without a state": ARRAY + b"(tb.",
    "scalar without bytes": NUMPY + b"scalar\n(" + DTYPE + b"tR.",
    "dtype without a state": DTYPE + b"(tb.",
    "dtype of a long text": b"cnumpy\ndtype\n(U\x08U9999999K\x00K\x01tR" b"(K\x03U\x01<NNNtb"
    b"cnumpy.core.multiarray\nscalar\nq\x00000.",
    "state of a list": b"]K\x01b.",
    "items of a number": b"K\x01K\x02a.",
    "an odd number of items": b"}(Nu.",
    "missing memo": b"h\x07.",
    "missing mark": b"Nt.",
    "nothing": b"\x80\x02.",
    "protocol of the future": b"\x80\x06N.",
    "not a name": b"\x80\x04NN\x93.",
    "call of a number": b"K\x01)R.",
    "call with a list": b"c__builtin__\nset\n]R.",
    "text without quotes": b"Sx\n.",
    "text without end": b"S'x",
    "buffer": b"\x80\x05\x97.",
    "long name": b"c" + b"x" * MIB + b"\nx\n.",
    "a name that is no text": b"c\xff\nx\n.",
    "new object": b"cos\nsystem\n)\x81.",
}  # fmt: skip


@pytest.mark.parametrize("kind", PICKLES)
def test_hostile_pickles(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(pickles, "MOST_STEPS", 30_000)
    path = tmp_path / "stranger.pickle"
    path.write_bytes(PICKLES[kind])
    refused(lambda: load_pickle(path), path, r"(is damaged, or not a pickle|is refused)")


SHARED = {
    "shared lists": b"]" + b"2]2(" * 0 + b"".join(b"q\x01](h\x01h\x01e" for _ in range(40)),
    "a list in itself": b"]q\x012a",
    "a deep list": b"]" * 5_000 + b"a" * 4_999,
    "lists of texts and numbers": b"](U\x01aK\x01e",
    "text": text(b"x" * MIB),
    "shared dictionary": b"}" + b"".join(b"q\x01}(K\x01h\x01K\x02h\x01u" for _ in range(40)),
    "huge numbers": b"](\x8a\xff" + b"\x7f" * 255 + b"K\x01e",
    "classes that share a huge list": b"}(U\x01aq\x00U\x01bq\x01](" + b"K\x00" * 3 + b"eu",
    "classes of one name": b"}(U\x01a](K\x00eC\x01a](K\x01eu",
    "a huge number as class": b"}(\x8a\x07" + b"\x7f" * 7 + b"](K\x00eK\x01](K\x07eu",
    "surrogates": b"](" + text(b"\xed\xa0\x80") + b"K\x01e",
}


@pytest.mark.parametrize("kind", SHARED)
def test_hostile_data_sets(root, kind):
    """Pickles that are read, but hold what takes endless time to compare, show or convert."""
    path = root / "mini-imagenet-cache-val.pkl"
    path.write_bytes(data(SHARED[kind]))
    refused(lambda: MiniImageNet(root).load("validation"), path)
    folder = root / "cifar-100-python"
    cifar100(folder)
    for part, key in (("train", b"fine_labels"), ("meta", b"fine_label_names")):
        cifar100(folder)
        whole = pickle.loads((folder / part).read_bytes())
        rest = {name: value for name, value in whole.items() if name not in (key, key.decode())}
        content = pickle.dumps(rest, 2)[:-1] + text(key) + SHARED[kind] + b"s."
        (folder / part).write_bytes(content)
        refused(lambda: CIFARFS(root).load("test"), folder)


def test_one_long_text_among_labels(root):
    """As an array, every label would take the room of the longest."""
    labels = b"](" + text(b"x" * MIB) + b"U\x01a" + b"U\x01b" * 998 + b"e"
    content = pickle.dumps({"data": np.zeros((1_000, 2, 2, 3), np.uint8)}, 2)[:-1]
    path = root / "mini-imagenet-cache-val.pkl"
    path.write_bytes(content + text(b"labels") + labels + b"s.")
    with bounded():
        assert MiniImageNet(root).load("validation").num_classes == 3


def test_a_large_pickle_is_read_fast(tmp_path):
    content = {
        "filenames": [f"{i:06}.png" for i in range(4_000)],
        "labels": list(range(4_000)),
        "data": np.zeros((1_000, 3_072), np.uint8),
    }
    path = tmp_path / "large"
    for protocol in (0, 2, 5):
        path.write_bytes(pickle.dumps(content, protocol))
        with bounded():
            assert load_pickle(path).keys() == content.keys()


# Archives and arrays


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


def tar_of_cifar100(tmp_path, per_class=(1, 1)):
    cifar100(tmp_path / "cifar-100-python", per_class)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(tmp_path / "cifar-100-python", "cifar-100-python")
    return content.getvalue()


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


# Images


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


# Things that are not files


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def itself(path):
    path.symlink_to(path)


def nowhere(path):
    path.symlink_to(path.with_name("nowhere"))


def folder(path):
    path.mkdir()


def sparse(path):
    with path.open("wb") as file:
        file.truncate(2**40)


THINGS = [pipe, endless, itself, nowhere, folder, sparse]


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize(
    ("source", "name", "others"),
    [
        (ArrayFile, "images.npz", None),
        (CIFARFS, "CIFAR_FS_train.pickle", None),
        (CIFARFS, "cifar-100-python.tar.gz", None),
        (CIFARFS, "train", lambda root: [(root / n).write_bytes(b"") for n in ("test", "meta")]),
        (MiniImageNet, "mini-imagenet-cache-train.pkl", None),
        (Omniglot, "images_background_small1.zip", None),
        (Omniglot, "images_background_small1/Latin/character01/0001_01.png", None),
        (Folders, "class 2/7.png", class_folders),
    ],
)
def test_what_is_no_file(root, thing, source, name, others):
    if others:
        others(root)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    thing(path)
    place = path if source is ArrayFile else root
    limited = thing is sparse and source is not ArrayFile
    message = "1,099,511,627,776 bytes, more than the" if limited else None
    refused(lambda: source(place).load("train"), root, message)


def test_folders_may_lead_into_themselves(root):
    class_folders(root)
    (root / "loop").symlink_to(root)
    (root / "class 0" / "loop").symlink_to(root)
    with bounded():
        assert sum(Folders(root).load(split).num_classes for split in ("train", "test")) == 4


@pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
def test_folders_may_have_names_that_are_no_text(root):
    class_folders(root, range(3))
    (root / "class 0").rename(root / os.fsdecode(b"class \xff"))
    names = [
        name
        for split in ("train", "validation", "test")
        for name in Folders(root).load(split).names
    ]
    assert "class \udcff" in names


# All of them, damaged at random


def array_file(root, tmp_path):
    np.savez(root / "images.npz", images=labelled()[0], labels=labelled()[1])
    return root / "images.npz", ArrayFile(root / "images.npz")


def packed_array_file(root, tmp_path):
    np.savez_compressed(root / "images.npz", images=labelled()[0], labels=list("abcdefghij") * 3)
    return root / "images.npz", ArrayFile(root / "images.npz")


def mini_imagenet(root, tmp_path):
    path = root / "mini-imagenet-cache-train.pkl"
    content = {
        "image_data": np.zeros((4, 2, 2, 3), np.uint8),
        "class_dict": {"a": [0, 2], "b": [1, 3]},
    }
    path.write_bytes(pickle.dumps(content, 4))
    return path, MiniImageNet(root)


def cifar_archive(root, tmp_path):
    path = root / "cifar-100-python.tar.gz"
    path.write_bytes(gzip.compress(tar_of_cifar100(tmp_path)))
    return path, CIFARFS(root)


def cifar_tar(root, tmp_path):
    path = root / "cifar-100-python.tar.gz"
    path.write_bytes(tar_of_cifar100(tmp_path))
    return path, CIFARFS(root)


def omniglot(root, tmp_path):
    return omniglot_archive(root / "images_background_small1.zip", SMALL1), Omniglot(root)


def picture(suffix):
    def make(root, tmp_path):
        class_folders(root, range(3))
        gradient = Image.linear_gradient("L").resize((8, 6))
        for c in range(3):
            for i in range(2):
                (root / f"class {c}" / f"{i}.png").unlink()
                gradient.save(root / f"class {c}" / f"{i}.{suffix}")
        return root / "class 1" / f"1.{suffix}", Folders(root)

    return make


MADE = {
    "npz": array_file,
    "packed npz": packed_array_file,
    "pickle": mini_imagenet,
    "tar.gz": cifar_archive,
    "tar": cifar_tar,
    "omniglot": omniglot,
} | {suffix: picture(suffix) for suffix in ("png", "jpg", "gif", "bmp", "webp")}


def damaged(content, random):
    """Cut, overwrite, or write a hostile number into a file; its ends are hit most."""
    changed = bytearray(content)
    kind, place = random.integers(4), int(random.integers(len(content)))
    if random.random() < 0.5:
        near = int(random.integers(min(200, len(content))))
        place = near if random.random() < 0.5 else len(content) - 1 - near
    if kind == 0:
        return bytes(changed[:place])
    if kind == 1:
        changed[place] ^= 1 << int(random.integers(8))
    elif kind == 2:
        changed[place] = int(random.integers(256))
    else:
        value = random.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
        changed[place : place + 4] = value
    return bytes(changed)


@pytest.mark.parametrize("kind", MADE)
def test_files_damaged_at_random(root, tmp_path, kind, monkeypatch):
    path, source = MADE[kind](root, tmp_path)
    content = path.read_bytes()
    source.load("train")
    random = np.random.default_rng(sum(kind.encode()))
    outcomes = {"read": 0, "refused": 0}
    with bounded(seconds=60):
        for number in range(10 if kind == "bmp" else 50):  # bitmaps are allocated as they say
            path.write_bytes(damaged(content, random))
            os.utime(path, ns=(number, number))
            try:
                source.load("train")
                outcomes["read"] += 1
            except (ValueError, FileNotFoundError) as error:
                assert path.name in str(error)  # noqa: PT017 (reading it is right as well)
                assert len(str(error)) < 2_000  # noqa: PT017
                outcomes["refused"] += 1
    assert outcomes["refused"] > 1, outcomes
