"""Files that were made to do harm: small, but they ask for much work, much memory or for actions.

The first word of a name is the kind of file that it can replace. Nothing here is larger than a few
megabytes; what it would become is bounded by a few gigabytes.
"""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

_HUGE = 3 << 30  # bytes that nobody asked for


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> Any:
        return self._reduced


EXECUTE = Call(os.system, "touch executed")
"""What must not happen when it is read."""


@cache
def _zeros() -> bytes:
    """Return a raw deflate stream that becomes some gigabytes of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    once = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return once * (_HUGE >> 24) + packer.flush(zlib.Z_FINISH)


def _then_zeros(head: bytes) -> bytes:
    """Return a raw deflate stream of a beginning, and then zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH) + _zeros()


def _zip_bomb(valid: bytes) -> bytes:
    """Replace the content of a member by zeros, of the size that its header says."""
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        name = archive.namelist()[0].encode()
    data = _then_zeros(_npy(f"({_HUGE},)")) if name.endswith(b".npy") else _zeros()
    sizes = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(data), _HUGE, len(name), 0)
    member = b"PK\3\4" + sizes + name + data
    entry = b"PK\1\2\x14\0" + sizes + bytes(14) + name
    return (
        member + entry + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(member), 0)
    )


def _zip_again(method: int, flag: int = 0, said: int | None = None) -> Callable[[bytes], bytes]:
    """Pack an archive anew; `flag` and `said` falsify its headers' flags and method."""

    def pack(valid: bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(valid)) as old, zipfile.ZipFile(out, "w", method) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
        made = bytearray(out.getvalue())
        for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            at = -1
            while (at := made.find(mark, at + 1)) >= 0:
                falsified = struct.pack("<HH", flag, method if said is None else said)
                made[at + place : at + place + 4] = falsified
        return bytes(made)

    return pack


def _npy(shape: str, dtype: str = "'|u1'", order: str = "False", data: bytes = b"") -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def _npz(images: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("images.npy", images)
        archive.writestr("labels.npy", _npy("(3,)", "'<i8'", data=bytes(24)))
    return out.getvalue()


def _tar(name: str, data: bytes = b"", size: int | None = None, **fields: Any) -> bytes:
    info = tarfile.TarInfo(f"cifar-100-python/{name}")
    info.size = len(data) if size is None else size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def _gzip(deflated: bytes) -> bytes:
    return b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + deflated + bytes(8)


def _gzipped(raw: bytes) -> bytes:
    return _gzip(zlib.compress(raw, wbits=-15))


def _png(width: int, height: int, pixels: bytes = b"", text: bytes = b"", color: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    chunks = {b"IHDR": header, b"zTXt": b"x\0\0" + text, b"IDAT": pixels, b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )


def _tree(use: bytes) -> bytes:
    """Return a pickle of a pair of twice the same pair, and so on: small, with 2⁶⁰ leaves."""
    pairs = (b"h%ch%c\x86q%c" % (k, k, k + 1) for k in range(60))
    return b"\x80\x02)q\0" + b"".join(pairs) + b"0" + use.replace(b"TREE", b"h\x3c")


def _array(shape: Any, content: Any, code: str = "u1") -> bytes:
    """Return a pickle of images that says of an array what need not be true."""
    dtype = np.dtype(code)
    reduced: Any = np.zeros(1, dtype).__reduce__()

    class Forged:
        def __reduce__(self) -> Any:
            return *reduced[:2], (1, shape, dtype, False, content)

    return pickle.dumps({"data": Forged(), "labels": [0, 1, 2]}, 2)


def _labelled(images: Any, labels: Any) -> bytes:
    return pickle.dumps({"data": images, "labels": labels})


_IMAGES = np.zeros((2, 4, 4, 3), np.uint8)

# Those that replace a file, whatever was in it.
_GIVEN: dict[str, Callable[[], bytes]] = {
    "pickle that calls": lambda: pickle.dumps(EXECUTE),
    "pickle that opens": lambda: b"cbuiltins\nopen\n(S'executed'\nS'w'\ntR.",
    "pickle of gigabytes": lambda: pickle.dumps(Call(bytes, _HUGE)),
    "pickle of a bytearray of gigabytes": lambda: _labelled(Call(bytearray, _HUGE), [1]),
    "pickle of a tree as a key": lambda: _tree(b"}TREENs."),
    "pickle of a tree in a set": lambda: _tree(b"cbuiltins\nfrozenset\n]TREEa\x85R."),
    "pickle of a tree as data": lambda: _tree(b"}(U\x04dataTREEU\x06labels]u."),
    "pickle of a tree as labels": lambda: _tree(b"}(U\x04dataNU\x06labelsTREEu."),
    "pickle of a tree as a codec": lambda: _tree(b"c_codecs\nencode\nU\1xTREE\x86R."),
    "pickle of a tree as a dtype": lambda: _tree(b"cnumpy\ndtype\nTREE\x85R."),
    "pickle of depth": lambda: b"(" * 200_000 + b"N" + b"t" * 200_000 + b".",
    "pickle with a huge memo": lambda: b"\x80\x02Nr\xff\xff\xff\x7f.",
    "pickle with a text of gigabytes": lambda: b"\x80\x04\x8d\0\0\0\xc0\0\0\0\0x.",
    "pickle with a frame of exabytes": lambda: b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.",
    "pickle of digits": lambda: b"I" + b"9" * 10**6 + b"\n.",
    "pickle of a list in itself": lambda: b"]q\0h\0a.",
    "pickle of a dictionary in itself": lambda: b"\x80\x02}q\0(U\x04datah\0U\x06labelsh\0u.",
    "pickle of no pixels and a huge shape": lambda: _array((0, 2**62, 2, 3), b""),
    "pickle of a negative shape": lambda: _array((-3, 4, 4, 3), b"x" * 144),
    "pickle of floats in a shape": lambda: _array((3.0, 4, 4, 3), b"x" * 144),
    "pickle of objects": lambda: _array((3,), [1, 2, 3], "O"),
    "pickle of a thousand dimensions": lambda: _array((1,) * 1000, b"x"),
    "pickle of None": lambda: pickle.dumps(None),
    "pickle of labels that are none": lambda: _labelled(_IMAGES, [float("nan"), None]),
    "pickle of ragged labels": lambda: _labelled(_IMAGES, [[1], [1, 2]]),
    "pickle of images without height": lambda: _labelled(_IMAGES[:, :0], [0, 1]),
    "pickle of odd places": lambda: pickle.dumps(
        {"image_data": _IMAGES, "class_dict": {"a": "01", 3: {0: 1}}}
    ),
    "pickle of names that are lists": lambda: pickle.dumps({b"fine_label_names": [[]] * 100}),
    "npz of a huge shape": lambda: _npz(_npy(f"({2**40}, 4, 4)")),
    "npz of a shape of gigabytes": lambda: _npz(_npy(f"({_HUGE}, 1, 1)", data=b"x")),
    "npz of a shape beyond all": lambda: _npz(_npy(f"({2**63}, 4, 4)")),
    "npz of a negative shape": lambda: _npz(_npy("(-1, 4, 4)", data=bytes(16))),
    "npz of objects": lambda: _npz(_npy("(3,)", "'|O'", data=pickle.dumps(EXECUTE))),
    "npz of structures": lambda: _npz(_npy("(3, 4, 4)", "[('a', '|u1')]", data=bytes(48))),
    "npz with an open bracket": lambda: _npz(_npy("((((")),
    "npz with many brackets": lambda: _npz(_npy("(" * 4000 + ")" * 4000)),
    "npz with a header of gigabytes": lambda: _npz(b"\x93NUMPY\2\0\xff\xff\xff\x7f{"),
    "npz that is a pickle": lambda: pickle.dumps(EXECUTE),
    "npz that is one array": lambda: _npy("(3, 4, 4)", data=bytes(48)),
    "gz of gigabytes": lambda: _gzip(_then_zeros(_tar("train", size=_HUGE))),
    "gz of gigabytes beside the data": lambda: _gzip(_then_zeros(_tar("other", size=_HUGE))),
    "gz of a pickle of gigabytes": lambda: _gzip(
        _then_zeros(_tar("train", size=_HUGE) + b"\x80\x04\x8d\0\0\0\xb0\0\0\0\0")
    ),
    "gz of a long name": lambda: _gzip(_then_zeros(_tar("x", size=_HUGE, type=b"L"))),
    "gz of a long pax header": lambda: _gzip(_then_zeros(_tar("x", size=_HUGE, type=b"x"))),
    "gz of a pax header": lambda: _gzipped(_tar("x", b"99 size=-1\n", type=b"x") + _tar("train")),
    "gz of an empty pax header": lambda: _gzipped(_tar("x", b"0 size=5\n", type=b"x")),
    "gz of a link": lambda: _gzipped(_tar("train", type=b"2", linkname="/etc/passwd")),
    "gz of a negative size": lambda: _gzipped(_tar("train").replace(b"0" * 11, b"\xff" * 11, 1)),
    "gz of pickles that call": lambda: _gzipped(_tar("train", pickle.dumps(EXECUTE))),
    "gz of zeros": lambda: _gzip(_zeros()),
    "png of gigapixels": lambda: _png(60_000, 60_000),
    "png of a long line": lambda: _png(2**31 - 1, 1),
    "png of too many bytes": lambda: _png(105, 105, b"\x78\x9c" + _zeros()[: 1 << 20]),
    "png with a text of gigabytes": lambda: _png(8, 8, text=b"\x78\x9c" + _zeros()[: 1 << 20]),
    "png of a colour that is not": lambda: _png(8, 8, color=9),
    "npy of Fortran order": lambda: _npy("(12, 4, 4, 3)", order="True", data=bytes(576)),
    "npy of a huge shape": lambda: _npy(f"({2**62}, 4, 4, 3)"),
    "npy of an open bracket": lambda: _npy("(12, 4, 4, 3"),
    "npy of objects": lambda: _npy("(3,)", "'|O'", data=pickle.dumps(EXECUTE)),
    "npy of nothing": lambda: _npy("(0, 4, 4, 3)"),
    "npy of a number": lambda: _npy("()", data=b"x"),
    "json of depth": lambda: b"[" * 100_000,
    "json of digits": lambda: b"9" * 10_000,
    "json that is no text": lambda: b"\xff\xfe\x80",
}


def _renoted(name: str, value: Any) -> Callable[[bytes], bytes]:
    """Change what the notes of the cache say."""
    return lambda valid: json.dumps({**json.loads(valid), name: value}).encode()


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    **{name: (lambda _, make=make: make()) for name, make in _GIVEN.items()},  # type: ignore[misc]
    "zip of gigabytes": _zip_bomb,
    "zip by LZMA": _zip_again(zipfile.ZIP_LZMA),
    "zip by BZIP2": _zip_again(zipfile.ZIP_BZIP2),
    "zip that says encrypted": _zip_again(zipfile.ZIP_STORED, flag=1),
    "zip that says patched": _zip_again(zipfile.ZIP_STORED, flag=0x20),
    **{f"zip that says method {k}": _zip_again(0, said=k) for k in (8, 12, 14, 99)},
    "json of huge offsets": _renoted("offsets", [0, 2**70]),
    "json of infinite offsets": _renoted("offsets", [0, float("inf")]),
    "json of ragged offsets": _renoted("offsets", [[0], [1, 2]]),
    "json of names that are numbers": _renoted("names", list(range(6))),
    "json of a name": _renoted("names", 5),
}
