"""Pickles from strangers: data come out whole, and whatever is more than data is refused."""

import copyreg
import io
import os
import pickle
from collections import OrderedDict
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from plastic_envs.images.pickles import entry, load_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

DATA = [
    {"data": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), "labels": [0, 1]},
    {b"image_data": np.zeros((1, 2), ">i4"), "class_dict": OrderedDict(a=[0], b=[1])},
    [None, True, 1, -(2**70), 0.5, 1j, "ä", b"", b"\xff", (), (1, (2,)), {3}, frozenset({4})],
    [np.float32(0.1), np.int64(-3), np.bool_(True), np.str_("x"), np.bytes_(b"y")],
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    [np.array(["n01", "n0234"]), np.array([b"a", b"bc"]), np.array(5), np.array([True])],
    np.zeros((0, 4), np.float16),
    np.arange(10, dtype=np.uint16)[::3],
]


def written(tmp_path, content, name="stranger.pickle"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def same(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray | np.generic):
        native = left.dtype.newbyteorder("="), right.dtype.newbyteorder("=")  # as NumPy reads them
        return native[0] == native[1] and np.array_equal(left, right)
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("data", DATA)
def test_data_come_out_as_they_went_in(tmp_path, data, protocol):
    path = written(tmp_path, pickle.dumps(data, protocol))
    assert same(data, load_pickle(path))


def test_python2_pickle(tmp_path):
    """As Python 2 with NumPy 1 writes {"data": uint8 [2, 2], "labels": [7, 8], "é": u"é"}."""
    pixels = b"\x00\x7f\x80\xff"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01bt"
        b"R(K\x01(K\x02K\x02tcnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x04" + pixels + b"tb"
    )
    content = (
        b"\x80\x02}(U\x04data"
        + array
        + b"U\x06labels](K\x07K\x08eU\x01\xe9X\x02\x00\x00\x00\xc3\xa9u."
    )
    read = load_pickle(written(tmp_path, content))
    assert read["data"].tolist() == [[0, 127], [128, 255]]
    assert read["data"].dtype == np.uint8
    assert read["labels"] == [7, 8]
    assert read["é"] == "é"


class Gadget:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def object_array(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def gadgets(target):
    """Programs that would make the file `target`, each with what the refusal must name."""
    touch = f"touch {target}"
    source = f"open({str(target)!r}, 'w')"
    system = f"{os.name}.system"
    return {
        "system": (Gadget(os.system, touch), system),
        "eval": (Gadget(eval, source), "builtins.eval"),
        "exec": (Gadget(exec, source), "builtins.exec"),
        "open": (Gadget(open, str(target), "w"), "io.open"),
        "getattr": (Gadget(getattr, "x", "upper"), "builtins.getattr"),
        "import": (Gadget(__import__, "os"), "builtins.__import__"),
        "load": (Gadget(np.load, str(target), None, True), "numpy.load"),
        "fromfile": (Gadget(np.memmap, str(target), np.uint8, "w+", 0, (1,)), "numpy.memmap"),
        "nested in a dictionary": ({"data": [1, (Gadget(os.system, touch),)]}, system),
        "key": ({Gadget(os.system, touch): 1}, system),
        "in an array of objects": (object_array(Gadget(os.system, touch)), "'O8'"),
        "class": (Path("x"), "pathlib"),
        "other class": (date(2020, 1, 1), "datetime.date"),
    }


@pytest.mark.parametrize("kind", gadgets("x"))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_programs_are_refused_and_do_not_run(tmp_path, kind, protocol):
    target = tmp_path / "ran"
    program, named = gadgets(target)[kind]
    path = written(tmp_path, pickle.dumps(program, protocol))
    with pytest.raises(ValueError, match=r"stranger\.pickle is refused") as caught:
        load_pickle(path)
    assert named in str(caught.value).replace("__builtin__", "builtins")
    assert not target.exists()


RAW = {
    "global": (b"cposix\nsystem\n(S'touch TARGET'\ntR.", "posix.system"),
    "inst": (b"(S'touch TARGET'\niposix\nsystem\n.", "posix.system"),
    "obj": (b"(cposix\nsystem\nS'touch TARGET'\no.", "posix.system"),
    "python 2": (b"(S'print 1'\ni__builtin__\neval\n.", "__builtin__.eval"),
    "run_python_file": (b"cnumpy.f2py.crackfortran\nparam_eval\n(S'1'\ntR.", "param_eval"),
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.system\x93.", "numpy.f2py.os.system"),
    "module of numpy": (b"cnumpy.core.multiarray\nfromfile\n.", "fromfile"),
    "reconstructor": (b"ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
    "persistent": (b"Pnumber\n.", "outside"),
    "persistent, binary": (b"\x80\x04K\x01Q.", "outside"),
    "codec": (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "codec 'zip'"),
    "kind": (b"cnumpy.core.multiarray\n_reconstruct\n(c_codecs\nencode\n(tS'b'\ntR.", "kind"),
    "ndarray": (b"\x80\x02cnumpy\nndarray\n(K\x09tS'O'\n\x86R.", "unknown way"),
    "dtype of objects": (b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR.", "'O8'"),
    # NumPy itself takes the bytes of such an array for pointers.
    "forged flags": (
        b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb.",
        "'O8'",
    ),
    "fields": (b"cnumpy\ndtype\n(S'V8'\nI00\nI01\ntR.", "'V8'"),
    "fields later": (
        b"cnumpy\ndtype\n(S'u8'\nI00\nI01\ntR(I3\nS'|'\nN(S'a'\nt(dNI8\nI1\nI0\ntb.",
        "structures",
    ),
    "state of a function": (b"c_codecs\nencode\n}S'__doc__'\nS'x'\nsb.", "changes a function"),
    "slots of a function": (b"c_codecs\nencode\nN}S'_function'\nNs\x86b.", "changes a function"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RAW)
def test_handmade_programs_are_refused(tmp_path, kind):
    target = tmp_path / "ran"
    content, named = RAW[kind]
    path = written(tmp_path, content.replace(b"TARGET", str(target).encode()))
    with pytest.raises(ValueError, match=r"stranger\.pickle is refused") as caught:
        load_pickle(path)
    assert named in str(caught.value)
    assert not target.exists()


@pytest.fixture
def extension():
    """Extension code 240, which stands for os.getcwd and was looked up before."""
    copyreg.add_extension("posix", "getcwd", 240)
    program = b"\x80\x02\x82\xf0)R."
    assert pickle.loads(program) == str(Path.cwd())  # now it is remembered
    yield program
    copyreg.remove_extension("posix", "getcwd", 240)
    copyreg.clear_extension_cache()


def test_extension_codes_are_refused(tmp_path, extension):
    with pytest.raises(ValueError, match="asks for the extension 240"):
        load_pickle(written(tmp_path, extension))


def test_arrays_must_have_as_many_bytes_as_their_shape(tmp_path):
    content = pickle.dumps(np.zeros(4, np.uint8), 4)
    for shape in (b"K\x05", b"K\x03", b"J\xff\xff\xff\xff"):
        forged = content.replace(b"K\x04\x85", shape + b"\x85")
        assert forged != content
        with pytest.raises(ValueError, match="cannot have 4 bytes"):
            load_pickle(written(tmp_path, forged))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_truncated_pickle_is_a_value_error(tmp_path, protocol):
    content = pickle.dumps({"data": np.zeros((2, 3), np.uint8), "labels": ["a", b"b"]}, protocol)
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"stranger\.pickle is"):
            load_pickle(written(tmp_path, content[:length]))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_damaged_pickle_is_read_or_a_value_error(tmp_path, protocol):
    content = pickle.dumps({"data": np.zeros((2, 3), np.uint8), "labels": ["a", 2.5]}, protocol)
    random = np.random.default_rng(protocol)
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] = random.integers(256)
        try:
            load_pickle(written(tmp_path, bytes(damaged)))
        except ValueError as error:
            assert "stranger.pickle" in str(error)  # noqa: PT017 (reading it is right as well)
            refused += 1
    assert refused > 100


def test_not_a_pickle(tmp_path):
    for content in (b"", b"hello", b"\xff\xd8\xff\xe0", b"\x93NUMPY", b"."):
        with pytest.raises(ValueError, match="damaged, or not a pickle"):
            load_pickle(written(tmp_path, content))
    with pytest.raises(FileNotFoundError):
        load_pickle(tmp_path / "none.pickle")


def test_entries_have_names_of_text_or_bytes():
    assert entry({b"data": 1}, "data") == 1
    assert entry({"image_data": 2}, "data", "image_data") == 2
    with pytest.raises(ValueError, match=r"must have 'data' or 'x', but holds the entries \['a'\]"):
        entry({"a": 1}, "data", "x")
    with pytest.raises(ValueError, match="holds a list"):
        entry([], "data")


def test_the_ordinary_unpickler_would_run_them(tmp_path):
    """The gadgets are real: what is refused above makes a file when it is not."""
    target = tmp_path / "ran"
    pickle.load(io.BytesIO(pickle.dumps(gadgets(target)["system"][0])))
    assert target.exists()
