"""Memories in C: they equal their equations, and C and Python mean the same struct."""

import ctypes
import hashlib
import re
from pathlib import Path

import pytest
import torch

from agents import AssociativeMemory, builds
from agents.builds import interface_of
from agents.memories import naive
from agents.memories.cpu import form, library
from agents.memories.updates import Delta, GatedDelta, Hebbian, Mesa, MesaState

needs_kernel = pytest.mark.skipif(library.load() is None, reason="the kernel was not built")
HEADER = (Path(library.__file__).parent / "csrc" / "memory.h").read_text()
F64 = torch.float64
KINDS = {
    "hebbian": lambda *sizes: Hebbian(*sizes),
    "hebbian-keep": lambda *sizes: Hebbian(*sizes, keep=0.9),
    "delta": lambda *sizes: Delta(*sizes),
    "delta-keep": lambda *sizes: Delta(*sizes, keep=0.9),
    "gated-delta": lambda *sizes: GatedDelta(*sizes, keep=0.8),
    "mesa": lambda *sizes: Mesa(*sizes),
    "mesa-least-ridge": lambda *sizes: Mesa(*sizes, ridge=0.0011),
    "mesa-keep": lambda *sizes: Mesa(*sizes, keep=0.9),
}
SIZES = {  # batch, heads, steps, key, value: groups that are full and not, sums of any length
    "one": (1, 1, 1, 1, 1),
    "few": (3, 2, 7, 5, 4),
    "odd": (2, 1, 2, 6, 3),
    "long": (3, 3, 33, 9, 7),
}


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fill all memory that the kernel is to fill with NaN: what it leaves out is seen."""
    unfilled = form.unfilled
    monkeypatch.setattr(form, "unfilled", lambda *args: unfilled(*args).fill_(torch.nan))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(name, size, *, begun=True, resets=True):
    """Return an update, projected features, a state or None, and starts or None."""
    batch, heads, steps, *sizes = SIZES[size]
    update, generator = KINDS[name](*sizes, heads).double(), seeded(1)
    projected = torch.randn(batch, steps, sum(update.widths), generator=generator, dtype=F64)
    state, starts = None, None
    if begun:
        empty = update.initial_state(batch, projected)
        drawn = [torch.randn(leaf.shape, generator=generator, dtype=F64) for leaf in empty]
        if isinstance(empty, MesaState):
            drawn[0] = drawn[0] @ drawn[0].mT
        state = type(empty)(*(leaf.requires_grad_() for leaf in drawn))
    if resets:
        starts = torch.rand(batch, steps, generator=generator) < 0.2
        starts[0, [0, -1]] = True
    return update, projected.requires_grad_(), state, starts


def literal(update, projected, state, starts):
    reads, final = naive.run(update, update.writes(projected), state, starts)
    return reads.transpose(1, 2).flatten(2), final


def gradients(compute, update, projected, state, starts, *, create_graph=False):
    """Return reads, final state and every gradient; what comes in is not symmetric."""
    reads, final = compute(update, projected, state, starts)
    generator = seeded(2)
    loss = sum(
        (leaf * torch.randn(leaf.shape, generator=generator, dtype=F64)).sum()
        for leaf in (reads, *final)
    )
    inputs = [projected, *(state or ()), *update.parameters()]
    found = torch.autograd.grad(
        loss, inputs, allow_unused=True, materialize_grads=True, create_graph=create_graph
    )
    return [reads, *final, *found]


def assert_same(actual, expected, tolerance=1e-9):
    for a, e in zip(actual, expected, strict=True):
        assert (a - e).abs().max() <= tolerance * e.abs().max().clamp_min(1e-12)


@needs_kernel
@pytest.mark.parametrize("resets", [False, True], ids=["whole", "resets"])
@pytest.mark.parametrize("begun", [False, True], ids=["empty", "begun"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", KINDS)
def test_equals_the_equations(name, size, begun, resets):
    given = problem(name, size, begun=begun, resets=resets)
    found = gradients(form.run, *given)
    assert_same(found, gradients(literal, *given))
    with torch.no_grad():
        reads, final = form.run(*given)
    assert all(map(torch.equal, (reads, *final), found))


@needs_kernel
@pytest.mark.parametrize("name", KINDS)
def test_float32_does_not_drift(name):
    """Over 1,000 steps, many more than the keys have entries."""
    update = KINDS[name](5, 4, 2).double()
    projected = torch.randn(2, 1000, sum(update.widths), generator=seeded(), dtype=F64)
    exact = gradients(form.run, update, projected.requires_grad_(), None, None)
    update.float()
    projected = projected.detach().float().requires_grad_()
    found = gradients(form.run, update, projected, None, None)
    states = len(found) - 2 - len(list(update.parameters()))
    later = [0, 1 + states]  # reads, and gradients by what is written
    assert_same([found[i][:, 500:] for i in later], [exact[i][:, 500:] for i in later], 1e-4)
    # the first steps of mesa are ill-conditioned
    assert_same(found[: 1 + states], exact[: 1 + states], 2e-3)
    if name.startswith("mesa"):
        assert torch.equal(found[1], found[1].mT)
        assert torch.linalg.eigvalsh(found[1] + torch.diag_embed(update.ridge)).min() > 0


@needs_kernel
@pytest.mark.parametrize("keep", [1.0, 0.9999])
def test_mesa_in_float32_on_few_directions(keep):
    """Keys leave out six directions, where the rounding of H comes to exceed the smallest Λ."""
    update = Mesa(8, 2, 1, ridge=0.00101, keep=keep)
    generator = seeded()
    k = torch.randn(1, 1000, 2, generator=generator) @ torch.randn(2, 8, generator=generator)
    v = 0.5 * k[..., :2]
    projected = torch.cat([k, k, v, torch.full((1, 1000, 1), 20.0)], dim=-1)
    reads, _ = form.run(update, projected, None, None)
    assert (reads - v)[:, 20:].abs().max() < 1e-4 * v.abs().max() / keep**1000


@needs_kernel
@pytest.mark.parametrize("name", KINDS)
def test_zero_keys_and_writes_of_nothing(name):
    update, projected, _, _ = problem(name, "long", begun=False, resets=False)
    with torch.no_grad():
        projected[:, ::2, : update.widths[0]] = 0
        projected[:, ::3, sum(update.widths[:2]) :] = -1000.0
    found = gradients(form.run, update, projected, None, None)
    assert all(leaf.isfinite().all() for leaf in found)


@needs_kernel
@pytest.mark.parametrize("name", KINDS)
def test_nan_stays_in_its_sample_and_ends_with_the_episode(name):
    given = problem(name, "long", resets=False)
    starts = torch.zeros(3, 33, dtype=torch.bool)
    starts[1, 25] = True
    clean = gradients(form.run, *given[:3], starts)
    with torch.no_grad():
        given[1][1, 20] = torch.nan
    dirty = gradients(form.run, *given[:3], starts)
    assert dirty[0][1, 20:25].isnan().all()
    assert torch.equal(dirty[0][1, 25:], clean[0][1, 25:])
    states = len(given[2])
    for a, e in zip(dirty[: 2 + 2 * states], clean, strict=False):  # those of a sample
        assert torch.equal(a[[0, 2]], e[[0, 2]])


@needs_kernel
@pytest.mark.parametrize("name", ["delta-keep", "gated-delta"])
def test_derivatives_of_derivatives(name):
    """They are taken by the form in PyTorch."""
    given = problem(name, "few")
    assert_same(gradients(form.run, *given, create_graph=True), gradients(literal, *given))
    by_projected = []
    for compute in (form.run, literal):
        *_, by_keep = gradients(compute, *given, create_graph=True)
        by_projected.append(torch.autograd.grad(by_keep.sum(), given[1])[0])
    assert_same(by_projected[:1], by_projected[1:])


@needs_kernel
def test_threads_share_the_groups(monkeypatch):
    given = problem("mesa-keep", "long")
    expected = gradients(form.run, *given)
    monkeypatch.setattr(library, "_PARALLEL_WORK", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert library._slices(3, 1) == [(0, 1), (1, 3)]
    assert all(map(torch.equal, gradients(form.run, *given), expected))


@needs_kernel
def test_forms_are_chosen():
    class Half(Delta):
        largest_write = 0.5

    x = torch.randn(2, 50, 4, generator=seeded(), dtype=F64)
    core = AssociativeMemory(4, "mesa", layers=2).double()
    expected, _ = core(x)
    assert core.form == "auto"
    core.form = "compiled"
    assert torch.equal(core(x)[0], expected)
    core.form = "chunked"
    torch.testing.assert_close(core(x)[0], expected)
    assert not torch.equal(core(x)[0], expected)
    with pytest.raises(ValueError, match="form must be one of 'auto', 'compiled', 'chunked'"):
        core.form = "fast"
    for kind, name in ((Half, "Half"), ("attention", "Attention")):
        other = AssociativeMemory(4, kind).double()
        other(x)
        other.form = "compiled"
        with pytest.raises(ValueError, match=f"{name}, which has no compiled form"):
            other.step(x[:, 0])
    core.bfloat16().form = "compiled"
    with pytest.raises(ValueError, match=r"features are torch\.bfloat16"):
        core(x.bfloat16())


@needs_kernel
def test_transforms_and_graphs_see_the_form_in_pytorch():
    core = AssociativeMemory(4, "delta").double()
    x = torch.randn(3, 2, 9, 4, generator=seeded(), dtype=F64)
    expected = torch.stack([core(each)[0] for each in x])
    torch.testing.assert_close(torch.vmap(lambda each: core(each)[0])(x), expected)


def test_without_a_build_everything_still_computes(monkeypatch):
    core, x = AssociativeMemory(4, "mesa").double(), torch.ones(2, 5, 4, dtype=F64)
    expected, _ = core(x)
    monkeypatch.setattr(builds, "_instruction_sets", list)
    library._search.cache_clear()
    monkeypatch.setattr(library, "_search", library._search.__wrapped__)
    torch.testing.assert_close(core(x)[0], expected, rtol=1e-9, atol=1e-12)
    core.form = "compiled"
    with pytest.raises(ValueError, match="its kernel was not built"):
        core(x)


# One struct on both sides.


def declaration():
    """Return what memory.h says of the struct, without comments."""
    code = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)
    return " ".join(re.search(r"typedef struct {(.*)} Memory;", code, re.DOTALL)[1].split())


def test_the_fields_are_those_of_the_header_in_order():
    found = {}
    for line in declaration().strip(" ;").split(";"):
        words = line.replace("const ", "").split(None, 1)
        for name in words[1].split(", "):
            kind = "pointer" if name.startswith("*") else words[0]
            found.setdefault(kind, []).append(name.strip("*"))
    kinds = {"int64_t": "_INTEGERS", "double": "_REALS", "pointer": "_POINTERS"}
    assert found == {kind: list(getattr(library, ours)) for kind, ours in kinds.items()}
    [names] = re.findall(r"enum { (.*) }", HEADER)
    assert names.lower().split(", ") == list(library.KINDS)


def test_another_struct_has_another_version():
    """Where this fails, raise the version in memory.h and library.py, and put both here."""
    [version] = re.findall(r"#define MEMORY_VERSION (\d+)", HEADER)
    digest = hashlib.sha256(declaration().encode()).hexdigest()
    assert (int(version), digest[:12]) == (library._VERSION, "1cbe3b174170")


@needs_kernel
def test_every_build_says_what_it_was_built_from():
    paths = Path(library.__file__).parent.glob("_kernel_*.so")
    found = {interface_of(ctypes.CDLL(str(path)), library.SYMBOL) for path in paths}
    assert found == {(library._VERSION, library._STRUCT.size)}


@needs_kernel
@pytest.mark.parametrize(
    ("update", "key_size", "keep", "steps", "taken"),
    [
        ("mesa", 80, 1.0, 9, False),
        ("mesa", 80, 1.0, None, True),
        ("mesa", 80, 0.9, 9, True),
        ("mesa", 16, 1.0, 9, True),
        ("delta", 80, 1.0, 9, True),
    ],
)
def test_large_keys_of_mesa_are_left_to_the_chunks(
    monkeypatch, update, key_size, keep, steps, taken
):
    core = AssociativeMemory(4, update, key_size=key_size, keep=keep)
    calls, original = [], form.run
    monkeypatch.setattr(form, "run", lambda *args: calls.append(1) or original(*args))
    core.step(torch.zeros(2, 4)) if steps is None else core(torch.zeros(2, steps, 4))
    assert bool(calls) == taken
    core.layers[0].form = "compiled"
    core(torch.zeros(2, 9, 4))
    assert len(calls) == taken + 1
