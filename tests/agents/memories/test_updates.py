"""Memories over whole sequences equal their equations, step by step, and recurrences in NumPy."""

import numpy as np
import pytest
import torch

from agents.memories import naive
from agents.memories.updates import (
    UPDATES,
    Attention,
    Delta,
    GatedDelta,
    Hebbian,
    MatrixState,
    Mesa,
    MesaState,
    Write,
)
from benchmarks.memory_parity import (
    BATCH,
    HEADS,
    KEY,
    VALUE,
    numpy_results,
    problem,
    results,
    seeded,
    some_starts,
    some_state,
    step_by_step,
    writes,
)
from benchmarks.memory_parity import UPDATES as KINDS

F64 = torch.float64


def make(name, *, heads=HEADS):
    return KINDS[name](KEY, VALUE, heads).double()


def worst_error(actual, expected):
    """Return the largest deviation relative to the largest magnitude of each tensor."""
    assert actual.keys() <= expected.keys()
    errors = [
        (part - expected[name]).abs().max() / expected[name].abs().max().clamp_min(1e-12)
        for name, part in actual.items()
    ]
    return max(errors).item()


@pytest.mark.parametrize("resets", [False, True], ids=["whole", "resets"])
@pytest.mark.parametrize("begun", [False, True], ids=["empty", "begun"])
@pytest.mark.parametrize("steps", [1, 2, 7, 64, 130])
@pytest.mark.parametrize("name", KINDS)
def test_sequences_equal_the_equations(name, steps, begun, resets):
    update = make(name, heads=1 if steps == 64 else HEADS)
    parts = problem(update, steps)
    state = some_state(update) if begun else None
    starts = some_starts(steps) if resets else None
    actual = results(update, update, parts, state, starts)
    expected = results(update, step_by_step(update), parts, state, starts)
    assert actual.keys() == expected.keys()
    assert worst_error(actual, expected) < 1e-9


@pytest.mark.parametrize("longest", [1, 3, 16])
@pytest.mark.parametrize("name", ["hebbian-keep", "gated-delta", "mesa", "mesa-keep"])
def test_any_length_of_chunks(name, longest, monkeypatch):
    update = make(name)
    for module in ("hebbian", "delta", "mesa"):
        monkeypatch.setattr(f"agents.memories.updates.{module}._CHUNK", longest)
    parts, state, starts = problem(update, 23), some_state(update), some_starts(23)
    actual = results(update, update, parts, state, starts)
    expected = results(update, step_by_step(update), parts, state, starts)
    assert worst_error(actual, expected) < 1e-9


def test_attention_in_blocks(monkeypatch):
    monkeypatch.setattr("agents.memories.updates.attention._BLOCK", 4)
    for name in ("attention", "attention-distance"):
        update = make(name)
        parts, starts = problem(update, 23), some_starts(23)
        for state in (None, some_state(update)):
            actual = results(update, update, parts, state, starts)
            expected = results(update, step_by_step(update), parts, state, starts)
            assert worst_error(actual, expected) < 1e-9


@pytest.mark.parametrize("begun", [False, True], ids=["empty", "begun"])
@pytest.mark.parametrize("name", KINDS)
def test_equals_the_papers_in_numpy(name, begun):
    update = make(name)
    write = writes(update, problem(update, 50))
    given = (some_state(update), some_starts(50)) if begun else ()
    reads, final = update(write, *given)
    actual = {"reads": reads} | {f"final.{name}": leaf for name, leaf in final._asdict().items()}
    assert worst_error(actual, numpy_results(update, write, *given)) < 1e-9


def test_mesa_equals_recursive_least_squares():
    update = make("mesa")
    write = writes(update, problem(update, 60))
    reads, _ = update(write)
    k, q, v = (part[0, 0].detach().numpy() for part in write[:3])
    beta = write.log_beta[0, 0].detach().exp().numpy()
    p, memory = np.diag(1 / update.ridge[0].detach().numpy()), np.zeros((KEY, VALUE))
    for t in range(60):
        gain = beta[t] * p @ k[t] / (1 + beta[t] * k[t] @ p @ k[t])
        memory = memory + np.outer(gain, v[t] - memory.T @ k[t])
        joseph = np.eye(KEY) - np.outer(gain, k[t])
        p = joseph @ p @ joseph.T + np.outer(gain, gain) / beta[t]
        np.testing.assert_allclose(reads[0, 0, t].detach(), memory.T @ q[t], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_float32_does_not_drift(name):
    """Over 1,000 steps, many more than the keys have entries, at once and step by step."""
    update = make(name)
    parts = [part.detach() for part in problem(update, 1000, batch=2)]
    with torch.no_grad():
        exact, final = update(writes(update, parts))
        update.float()
        write = writes(update, [part.float() for part in parts])
        both = update(write), naive.run(update, write)
    for actual, after in both:
        for a, e in zip([actual, *after], [exact, *final], strict=True):
            assert (a - e).abs().max() < 1e-2 * e.abs().max()  # the first steps: ill-conditioned
        assert (actual - exact)[:, :, 500:].abs().max() < 1e-4 * exact.abs().max()
        if isinstance(after, MesaState):
            close = {"rtol": 1e-6, "atol": 1e-6 * after.H.max().item()}
            torch.testing.assert_close(after.H, after.H.mT, **close)
            assert torch.linalg.eigvalsh(after.H + torch.diag_embed(update.ridge)).min() > 0


@pytest.mark.parametrize("scale", [10, 1000])
def test_mesa_in_float32_with_large_keys(scale):
    """The products of the keys are then so large that 1 is less than their rounding."""
    update = Mesa(8, 1, 1, ridge=0.00101)
    generator = seeded()
    k = (
        scale
        * torch.randn(2, 1, 80, 2, generator=generator)
        @ torch.randn(2, 8, generator=generator)
    )
    v = torch.randn(2, 1, 80, 1, generator=generator)
    write = Write(k, k.roll(1, 2), v, torch.zeros(2, 1, 80), None)
    reads = [update(write)[0], naive.run(update, write)[0]]
    update.double()
    exact, _ = update(Write(*(part if part is None else part.double() for part in write)))
    for each in reads:
        assert (each - exact).abs().max() < 0.05 * exact.abs().max()


def test_what_one_write_does_is_bounded():
    """Of v, a read under its own key brings x / (1 + x) with x = β kᵀ P k, whatever the key."""
    steps = 40
    update = Mesa(5, 1, 1, ridge=0.00101).double()
    k = torch.randn(steps, 5, generator=seeded(), dtype=F64)
    k[::4], k[1::4], k[2::8], k[3::8] = 1e3 * k[::4], 1e-6 * k[1::4], 0, k[3]
    k = k.expand(steps, 1, steps, 5)
    v = torch.eye(steps, dtype=F64).view(steps, 1, steps, 1)  # each sample: of one write alone
    write = Write(k, k, v, torch.zeros(steps, 1, steps, dtype=F64), None)
    for reads, _ in (update(write), naive.run(update, write)):
        share = reads[:, 0, :, 0].diagonal()
        assert share.min() >= 0
        assert share.max() <= 1
        assert share[0] > 0.999
        assert not share[2::8].any()


def test_mesa_reads_the_same_step_by_step_in_float32():
    update = Mesa(24, 8, 1, ridge=0.06)
    k, q, v, *_ = (part.detach().float() for part in problem(update, 40))
    plane = torch.randn(12, 24, generator=seeded(2))  # as of linear features of fewer entries
    k, q = (part[..., :12] @ plane / 24**0.5 for part in (k, q))
    write = Write(k, q, v, torch.full_like(k[..., 0], -0.5), None)
    with torch.no_grad():
        reads, steps = update(write)[0], naive.run(update, write)[0]
        exact = naive.run(update.double(), Write(*(p.double() for p in write[:4]), None))[0]
    for found in (reads, steps):
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-4)


def test_mesa_in_float32_on_few_directions():
    """Keys leave out six directions, where the rounding of H comes to exceed the smallest Λ."""
    update = Mesa(8, 2, 1, ridge=0.00101)
    generator = seeded()
    k = torch.randn(1, 1, 1000, 2, generator=generator) @ torch.randn(2, 8, generator=generator)
    v = 0.5 * k[..., :2]
    write = Write(k, k, v, torch.zeros(1, 1, 1000), None)
    for reads, _ in (update(write), naive.run(update, write)):
        assert (reads - v)[:, :, 20:].abs().max() < 1e-4 * v.abs().max()


@pytest.mark.parametrize("name", KINDS)
def test_zero_keys_and_writes_of_nothing(name):
    update = make(name)
    parts = problem(update, 70)
    with torch.no_grad():
        for part in parts[:2]:
            part[:, :, ::2] = 0
        parts[3][:, :, ::3] = -60.0
    write = writes(update, [parts[0] + 0, *parts[1:]])
    if update.unit_keys:
        write = write._replace(k=parts[0], q=parts[1])
    reads, _ = update(write)
    gradients = torch.autograd.grad(reads.square().sum(), parts, allow_unused=True)
    assert reads.isfinite().all()
    assert all(grad is None or grad.isfinite().all() for grad in gradients)


@pytest.mark.parametrize("name", KINDS)
def test_resets_start_afresh(name):
    update = make(name)
    parts = problem(update, 90)
    starts = torch.zeros(BATCH, 90, dtype=torch.bool)
    starts[:, 50] = True
    reads, final = update(writes(update, parts), some_state(update), starts)
    fresh, after = update(writes(update, [part[:, :, 50:] for part in parts]))
    torch.testing.assert_close(reads[:, :, 50:], fresh)
    torch.testing.assert_close(final, after)
    (gradient,) = torch.autograd.grad(reads[:, :, 50:].sum(), parts[2])
    assert not gradient[:, :, :50].any()


def test_states_are_named():
    assert type(make("gated-delta").initial_state(1, torch.zeros(1))) is MatrixState
    assert set(UPDATES) == {"hebbian", "delta", "gated-delta", "mesa", "attention"}


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Mesa(4, 4, 1, ridge=0.001), "ridge must be a finite number .*above 0.001, got"),
        (
            lambda: Mesa(4, 4, 1, least_ridge=0),
            "least_ridge must be a finite number of at least 1e-06.*, got 0",
        ),
        (lambda: Mesa(4, 4, 1, ridge=float("nan")), "ridge must be .*, got nan"),
        (lambda: Delta(4, 4, 1, keep=0), "keep must be a finite number .*above 0, got 0"),
        (lambda: Delta(4, 4, 1, keep=1.1), "keep must be a finite number of at most 1.*, got 1.1"),
        (lambda: GatedDelta(4, 4, 1, keep=1), "keep must be below 1"),
        (lambda: Hebbian(0, 4, 1), "key_size must be an integer of at least 1.*, got 0"),
        (lambda: Hebbian(4, 2.5, 1), "value_size must be an integer.*, got 2.5"),
        (lambda: Hebbian(4, 4, True), "heads must be an integer.*, got True"),
        (
            lambda: Attention(4, 4, 1, context=0),
            "context must be an integer of at least 1.*, got 0",
        ),
        (
            lambda: Attention(4, 4, 1, match="cosine"),
            "match must be one of 'dot', 'distance', got 'cosine'",
        ),
        (lambda: Attention(4, 4, 1, kappa=0), "kappa must be a finite number .*above 0"),
    ],
)
def test_bad_settings(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()
