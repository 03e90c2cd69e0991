"""Pickles that are damaged or made to do harm, and data sets made of them."""

import pickle
import struct

import numpy as np
import pytest

from plastic_envs.images import CIFARFS, MiniImageNet, pickles
from plastic_envs.images.pickles import load_pickle
from tests.plastic_envs.image_files import cifar100
from tests.plastic_envs.images.hostile.bounds import MIB, bounded, refused

pytestmark = pytest.mark.usefixtures("cache")


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
