"""Memories over whole sequences equal their equations, step by step, and recurrences in NumPy."""

import numpy as np
import pytest
import torch

from agents.memories import naive
from agents.memories.updates import (
    UPDATES,
    Attention,
    AttentionState,
    Delta,
    GatedDelta,
    Hebbian,
    MatrixState,
    Mesa,
    MesaState,
    Write,
)

KINDS = {
    "hebbian": lambda *sizes: Hebbian(*sizes),
    "hebbian-keep": lambda *sizes: Hebbian(*sizes, keep=0.9),
    "delta": lambda *sizes: Delta(*sizes),
    "delta-keep": lambda *sizes: Delta(*sizes, keep=0.9),
    "gated-delta": lambda *sizes: GatedDelta(*sizes, keep=0.8),
    "mesa": lambda *sizes: Mesa(*sizes),
    "mesa-least-ridge": lambda *sizes: Mesa(*sizes, ridge=0.0011),
    "mesa-keep": lambda *sizes: Mesa(*sizes, keep=0.9),
    "attention": lambda *sizes: Attention(*sizes, context=6, match="dot"),
    "attention-distance": lambda *sizes: Attention(*sizes, context=100, match="distance"),
}
BATCH, HEADS, KEY, VALUE = 3, 2, 5, 4
F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(name, *, heads=HEADS):
    return KINDS[name](KEY, VALUE, heads).double()


def problem(update, steps, seed=1, batch=BATCH, dtype=F64):
    """Return k, q, v, β (and a gate) before they are scaled: what gradients are taken by."""
    generator = seeded(seed)
    heads = update.heads

    def draw(*shape):
        drawn = torch.randn(*shape, generator=generator, dtype=F64)
        return drawn.to(dtype).requires_grad_()

    sizes = update.key_size, update.key_size, update.value_size
    vectors = [draw(batch, heads, steps, size) for size in sizes]
    return [*vectors, *(draw(batch, heads, steps) for _ in range(2))]


def writes(update, parts):
    k, q, v, strength, gate = parts
    if update.unit_keys:
        k, q = (part / part.norm(dim=-1, keepdim=True) for part in (k, q))
    log_beta = torch.nn.functional.logsigmoid(strength) + np.log(update.largest_write)
    return Write(k, q, v, log_beta, update.log_gamma(gate if update.gated else None, log_beta))


def some_state(update, batch=BATCH, seed=2):
    generator = seeded(seed)
    empty = update.initial_state(batch, torch.zeros(1, dtype=F64))
    drawn = [torch.randn(leaf.shape, generator=generator, dtype=F64) for leaf in empty]
    if isinstance(empty, MesaState):
        drawn[0] = drawn[0] @ drawn[0].mT
    if isinstance(empty, AttentionState):
        drawn[2] = drawn[2].sigmoid().masked_fill(drawn[2] < 0, 0)
        drawn[2][..., -1] = 0.5  # one place at least is taken
    return type(empty)(*(leaf.requires_grad_() for leaf in drawn))


def some_starts(steps, batch=BATCH, share=0.2):
    return torch.rand(batch, steps, generator=seeded(3)) < share


def results(update, compute, parts, state, starts):
    """Return reads, final state and every gradient."""
    reads, final = compute(writes(update, parts), state, starts)
    weights = torch.linspace(-1, 1, reads.numel(), dtype=F64).view_as(reads)
    loss = (reads * weights).sum() + sum((leaf**2).sum() for leaf in final)
    inputs = [*parts, *(state or ()), *update.parameters()]
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
    return [reads, *final, *gradients]


def worst_error(actual, expected):
    """Return the largest deviation relative to the largest magnitude of each tensor."""
    errors = [
        (a - e).abs().max() / e.abs().max().clamp_min(1e-12)
        for a, e in zip(actual, expected, strict=True)
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

    def literal(*args):
        return naive.run(update, *args)

    assert worst_error(actual, results(update, literal, parts, state, starts)) < 1e-9


@pytest.mark.parametrize("longest", [1, 3, 16])
@pytest.mark.parametrize("name", ["hebbian-keep", "gated-delta", "mesa", "mesa-keep"])
def test_any_length_of_chunks(name, longest, monkeypatch):
    update = make(name)
    for module in ("hebbian", "delta", "mesa"):
        monkeypatch.setattr(f"agents.memories.updates.{module}._CHUNK", longest)
    parts, state, starts = problem(update, 23), some_state(update), some_starts(23)
    actual = results(update, update, parts, state, starts)
    expected = results(update, lambda *args: naive.run(update, *args), parts, state, starts)
    assert worst_error(actual, expected) < 1e-9


def test_attention_in_blocks(monkeypatch):
    monkeypatch.setattr("agents.memories.updates.attention._BLOCK", 4)
    for name in ("attention", "attention-distance"):
        update = make(name)
        parts, starts = problem(update, 23), some_starts(23)
        for state in (None, some_state(update)):
            actual = results(update, update, parts, state, starts)
            expected = results(update, lambda *args: naive.run(update, *args), parts, state, starts)  # noqa: B023
            assert worst_error(actual, expected) < 1e-9


def arrays(write):
    """Return k, q, v, β and γ of the first sample's first head, as arrays [T, …]."""
    *vectors, log_beta, log_gamma = write
    gamma = torch.ones_like(log_beta) if log_gamma is None else log_gamma.exp()
    return [part[0, 0].detach().numpy() for part in (*vectors, log_beta.exp(), gamma)]


def hebbian_in_numpy(update, k, q, v, beta, gamma):
    memory = np.zeros((KEY, VALUE))
    for t in range(len(k)):
        memory = gamma[t] * memory + beta[t] * np.outer(k[t], v[t])
        yield q[t] @ memory


def delta_in_numpy(update, k, q, v, beta, gamma):
    """As the papers write it: S (γ (I − β k kᵀ)) + β v kᵀ, the state transposed."""
    s = np.zeros((VALUE, KEY))
    for t in range(len(k)):
        s = s @ (gamma[t] * (np.eye(KEY) - beta[t] * np.outer(k[t], k[t])))
        s = s + beta[t] * np.outer(v[t], k[t])
        yield s @ q[t]


def mesa_in_numpy(update, k, q, v, beta, gamma):
    """Regularised least squares over all steps so far, solved anew each time."""
    ridge = np.diag(update.ridge[0].detach().numpy())
    for t in range(len(k)):
        age = np.array([np.prod(gamma[i + 1 : t + 1]) for i in range(t + 1)])
        weights, keys = age * beta[: t + 1], k[: t + 1]
        solution = np.linalg.solve(
            keys.T @ (weights[:, None] * keys) + ridge, keys.T @ (weights[:, None] * v[: t + 1])
        )
        yield solution.T @ q[t]


def attention_in_numpy(update, k, q, v, beta, gamma):
    kappa = update.log_kappa.exp()[0].item()
    for t in range(len(k)):
        held = slice(max(t + 1 - update.context, 0), t + 1)
        if update.match == "dot":
            scores = kappa * k[held] @ q[t]
        else:
            scores = -kappa * ((k[held] - q[t]) ** 2).sum(1)
        weights = beta[held] * np.exp(scores)
        yield weights @ v[held] / weights.sum()


NUMPY = {
    "hebbian": hebbian_in_numpy,
    "delta": delta_in_numpy,
    "gated": delta_in_numpy,
    "mesa": mesa_in_numpy,
    "attention": attention_in_numpy,
}


@pytest.mark.parametrize("name", KINDS)
def test_equals_the_papers_in_numpy(name):
    update = make(name)
    write = writes(update, problem(update, 50))
    reads, _ = update(write)
    expected = np.stack(list(NUMPY[name.split("-")[0]](update, *arrays(write))))
    np.testing.assert_allclose(
        reads[0, 0].detach().numpy(), expected, rtol=0, atol=1e-9 * abs(expected).max()
    )


def test_mesa_equals_recursive_least_squares():
    update = make("mesa")
    write = writes(update, problem(update, 60))
    reads, _ = update(write)
    k, q, v, beta, _ = arrays(write)
    p, memory = np.diag(1 / update.ridge[0].detach().numpy()), np.zeros((KEY, VALUE))
    for t in range(60):
        gain = beta[t] * p @ k[t] / (1 + beta[t] * k[t] @ p @ k[t])
        memory = memory + np.outer(gain, v[t] - memory.T @ k[t])
        joseph = np.eye(KEY) - np.outer(gain, k[t])
        p = joseph @ p @ joseph.T + np.outer(gain, gain) / beta[t]
        np.testing.assert_allclose(reads[0, 0, t].detach(), memory.T @ q[t], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_float32_does_not_drift(name):
    """Over 1,000 steps, many more than the keys have entries."""
    update = make(name)
    parts = [part.detach() for part in problem(update, 1000, batch=2)]
    exact, final = update(writes(update, parts))
    update.float()
    actual, after = update(writes(update, [part.float() for part in parts]))
    for a, e in zip([actual, *after], [exact, *final], strict=True):
        assert (a - e).abs().max() < 2e-3 * e.abs().max()  # the first steps are ill-conditioned
    assert (actual - exact)[:, :, 500:].abs().max() < 1e-4 * exact.abs().max()
    if isinstance(after, MesaState):
        torch.testing.assert_close(after.H, after.H.mT, rtol=1e-6, atol=1e-6 * after.H.max().item())
        assert torch.linalg.eigvalsh(after.H + torch.diag_embed(update.ridge)).min() > 0


def test_mesa_reads_the_same_step_by_step_in_float32():
    update = Mesa(24, 8, 1, ridge=0.06)
    k, q, v, *_ = problem(update, 40, dtype=torch.float32)
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
        (lambda: Mesa(4, 4, 1, least_ridge=0), "least_ridge must be a finite number of at least"),
        (lambda: Mesa(4, 4, 1, ridge=float("nan")), "ridge must be"),
        (lambda: Delta(4, 4, 1, keep=0), "keep must be a finite number .*above 0, got 0"),
        (lambda: Delta(4, 4, 1, keep=1.1), "keep must be a finite number of at most 1"),
        (lambda: GatedDelta(4, 4, 1, keep=1), "keep must be below 1"),
        (lambda: Hebbian(0, 4, 1), "key_size must be an integer of at least 1"),
        (lambda: Hebbian(4, 2.5, 1), "value_size must be an integer"),
        (lambda: Hebbian(4, 4, True), "heads must be an integer"),
        (lambda: Attention(4, 4, 1, context=0), "context must be an integer of at least 1"),
        (lambda: Attention(4, 4, 1, match="cosine"), "match must be one of 'dot', 'distance'"),
        (lambda: Attention(4, 4, 1, kappa=0), "kappa must be a finite number .*above 0"),
    ],
)
def test_bad_settings(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()
