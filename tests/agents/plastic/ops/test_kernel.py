"""Between Python and C: both mean the same struct, and the kernel fills all that it must."""

import ctypes
import hashlib
import re
import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from agents import Gradient, Hebbian, PlasticNetwork
from agents.builds import interface_of
from agents.plastic.ops.cpu import form as compiled
from agents.plastic.ops.cpu import library
from tests.agents.plastic.comparison import numbers

needs_kernel = pytest.mark.skipif(library.load() is None, reason="the kernel was not built")
HEADER = (Path(library.__file__).parent / "csrc" / "kernel.h").read_text()
RULES = {"gradient": Gradient, "hebbian": Hebbian}


def declaration():
    """Return what kernel.h says of the struct, without comments."""
    code = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)
    return " ".join(re.search(r"typedef struct {(.*)} Problem;", code, re.DOTALL)[1].split())


# One struct on both sides.


def test_the_fields_are_those_of_the_header_in_order():
    found = {}
    for line in declaration().strip(" ;").split(";"):
        words = line.replace("const ", "").split(None, 1)
        for name in words[1].split(", "):
            kind = "pointer" if name.startswith("*") else words[0]
            count = len(library.LAYERS) if name.endswith("[LAYERS]") else 1
            found.setdefault(kind, {})[name.strip("*").removesuffix("[LAYERS]")] = count
    kinds = {"int64_t": "_INTEGERS", "double": "_REALS", "pointer": "_POINTERS"}
    assert list(found) == list(kinds)
    for kind, ours in kinds.items():
        assert list(found[kind].items()) == list(getattr(library, ours).items())


def test_the_layers_are_those_of_the_header_in_order():
    [names] = re.findall(r"enum { (.*), LAYERS }", HEADER)
    assert names.lower().split(", ") == list(library.LAYERS)


def test_another_struct_has_another_version():
    """Where this fails, raise the version in kernel.h and library.py, and put both here."""
    [version] = re.findall(r"#define PROBLEM_VERSION (\d+)", HEADER)
    digest = hashlib.sha256(declaration().encode()).hexdigest()
    assert (int(version), digest[:12]) == (library._VERSION, "47904899d642")


def test_a_field_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="grad_z"):
        library._packed({"batch": 1, "grad_z": None})


# A build of another version is as none.


@pytest.fixture
def found_anew(monkeypatch):
    """Let builds be looked for again, in this test and after it."""
    library._search.cache_clear()
    yield
    monkeypatch.undo()
    library._search.cache_clear()


@needs_kernel
@pytest.mark.parametrize("what", ["version", "size"])
def test_a_build_of_another_version_is_not_used(monkeypatch, caplog, found_anew, what):
    if what == "version":
        monkeypatch.setattr(library, "_VERSION", library._VERSION + 1)
    else:
        monkeypatch.setattr(library, "_STRUCT", struct.Struct(library._STRUCT.format + "P"))
    net, x = PlasticNetwork(3, 2, 5), torch.zeros(1, 1, 3)
    assert net.supported_forms() == ["closed", "naive"]
    net(x)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    for remedy in ("pip install --no-deps --force-reinstall .", "setup.py build_ext --inplace"):
        assert remedy in record.message
    net.form = "compiled"
    with pytest.raises(ValueError, match=r"another version of its source .* build it anew"):
        net(x)


def test_a_library_that_does_not_say_its_version_has_none():
    assert interface_of(ctypes.CDLL(None), library.SYMBOL) == (0, 0)


@needs_kernel
def test_every_build_says_what_it_was_built_from():
    paths = Path(library.__file__).parent.glob("_kernel_*.so")
    expected = library._VERSION, library._STRUCT.size
    found = {interface_of(ctypes.CDLL(str(path)), library.SYMBOL) for path in paths}
    assert found == {expected}


# The kernel fills all memory that is made for it, and reads none before: with the fixture
# `poisoned`, whatever it leaves out is NaN.


def problem(rule, cell, encoder, steps, modulation, alpha="random"):
    generator = torch.Generator().manual_seed(0)
    module = None
    if encoder == "module":
        module = nn.Linear(3, 5)
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -1, 1, generator=generator)
    rule = RULES[rule](modulation=modulation, alpha=alpha, base_eta=0.4, max_norm=0.9)
    net = PlasticNetwork(3, 2, 5, cell, rule, encoder=module, generator=generator).double()
    x = torch.randn(4, steps, 3, generator=generator, dtype=torch.float64)
    state = net.initial_state(4).map(lambda leaf: leaf.uniform_(-0.3, 0.3, generator=generator))
    return net, x, state


@needs_kernel
@pytest.mark.parametrize("modulation", [True, False], ids=["modulated", "unmodulated"])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("starts", ["no starts", "starts"])
@pytest.mark.parametrize("encoder", ["plastic", "module"])
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
@pytest.mark.parametrize("rule", RULES)
def test_everything_is_filled(rule, cell, encoder, starts, steps, modulation):
    net, x, state = problem(rule, cell, encoder, steps, modulation)
    mask = None
    if starts == "starts":  # at the first step, at the last, at both, and nowhere
        mask = torch.zeros(4, steps, dtype=torch.bool)
        mask[[0, 2], 0] = mask[[1, 2], -1] = True
    expected = numbers(net, "closed", x, mask, state)
    found = numbers(net, "compiled", x, mask, state)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        y, final, probes = net.probe(x, state, mask)
    for name, leaf in {"y": y, **final.to_dict(), **probes._asdict()}.items():
        assert torch.equal(leaf, found[name]), name


@needs_kernel
@pytest.mark.parametrize("wanted", ["parameters", "alpha", "x", "hidden", "fast.cell_input"])
@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_the_same_whichever_are_wanted(rule, wanted):
    net, x, state = problem(rule, "lstm", "plastic", 7, modulation=True)
    inputs = {"x": x, **dict(net.named_parameters()), **state.to_dict()}

    def gradients(names):
        for name, leaf in inputs.items():
            leaf.requires_grad_(name in names)
        y, final = net(inputs["x"], state)
        loss = y.sum() + final.fast["readout"].weight.square().sum()
        return dict(zip(names, torch.autograd.grad(loss, [inputs[n] for n in names]), strict=True))

    net.form = "compiled"
    parameters = dict(net.named_parameters())
    some = [n for n in inputs if wanted in n or (wanted == "parameters" and n in parameters)]
    every = gradients(list(inputs))
    assert 0 < len(some) < len(every)
    assert all(torch.equal(grad, every[name]) for name, grad in gradients(some).items())


@needs_kernel
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_read_before_it_is_written(rule, cell):
    """The kernel's own memory is filled with bytes of the C library's choice."""
    library_of_c = ctypes.CDLL(None)
    if not hasattr(library_of_c, "mallopt"):
        pytest.skip("a C library without mallopt")
    net, x, state = problem(rule, cell, "plastic", 7, modulation=True)
    expected = numbers(net, "compiled", x, None, state)
    m_perturb = -6
    library_of_c.mallopt(m_perturb, 1)
    try:
        found = numbers(net, "compiled", x, None, state)
    finally:
        library_of_c.mallopt(m_perturb, 0)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@needs_kernel
def test_the_fixture_poisons():
    assert compiled.unfilled(torch.zeros(2)).isnan().all()
    assert compiled.unfilled(torch.zeros(2), 3, 1).isnan().all()
