"""Small random cases of the associative memories, in every form: what `benchmarks.parity` compares.

A memory is computed step by step by its equation (`naive`), over the whole sequence in PyTorch
(`sequence`) and in C (`compiled`, where it is built and knows the memory), and by the formulas of
the papers in NumPy (`numpy`), which gives reads and the final state alone.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.memories import naive
from agents.memories.cpu import form as cpu
from agents.memories.updates import (
    Attention,
    AttentionState,
    Delta,
    GatedDelta,
    Hebbian,
    Mesa,
    MesaState,
    Update,
    Write,
)

KEY, VALUE, HEADS, BATCH = 5, 4, 2, 3

UPDATES: Mapping[str, Callable[[int, int, int], Update]] = {
    "hebbian": Hebbian,
    "hebbian-keep": lambda *sizes: Hebbian(*sizes, keep=0.9),
    "delta": Delta,
    "delta-keep": lambda *sizes: Delta(*sizes, keep=0.9),
    "gated-delta": lambda *sizes: GatedDelta(*sizes, keep=0.8),
    "mesa": Mesa,
    "mesa-least-ridge": lambda *sizes: Mesa(*sizes, ridge=0.0011),
    "mesa-keep": lambda *sizes: Mesa(*sizes, keep=0.9),
    "attention": lambda *sizes: Attention(*sizes, context=6, match="dot"),
    "attention-distance": lambda *sizes: Attention(*sizes, context=100, match="distance"),
}
"""Memories that are compared, made of the sizes of keys and values and the number of heads."""

Results = dict[str, Tensor]
"""Numbers of a case: `reads`, `final.NAME`, and `grad.NAME` of inputs, state and parameters."""

Arrays = list[NDArray[np.float64]]
"""k, q, v, β and γ of one sample's head, with the time first."""


def memory_cases() -> Iterator[tuple[str, Results, dict[str, Results]]]:
    """Yield, for each case, a name, what `naive` says, and what the other forms say."""
    cases = itertools.product(UPDATES, (7, 130), (False, True))
    for name, steps, begun in cases:
        update = UPDATES[name](KEY, VALUE, HEADS).double()
        parts = problem(update, steps)
        state = some_state(update) if begun else None
        starts = some_starts(steps) if begun else None
        write = writes(update, parts)
        forms = {
            "sequence": results(update, update, parts, state, starts),
            "numpy": numpy_results(update, write, state, starts),
        }
        projected = together(update, parts)
        if cpu.obstacle(update, projected, state) is None:
            forms["compiled"] = results(update, in_c(update, projected), parts, state, starts)
        words = f"{name} {steps} steps" + (" begun resets" if begun else "")
        yield words, results(update, step_by_step(update), parts, state, starts), forms


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


def problem(update: Update, steps: int, seed: int = 1, batch: int = BATCH) -> list[Tensor]:
    """Return k, q, v, β (and a gate) before they are scaled: what gradients are taken by."""
    generator, lead = seeded(seed), (batch, update.heads, steps)
    sizes = (update.key_size,), (update.key_size,), (update.value_size,), (), ()
    drawn = (torch.randn(*lead, *size, generator=generator, dtype=torch.float64) for size in sizes)
    return [part.requires_grad_() for part in drawn]


def writes(update: Update, parts: list[Tensor]) -> Write:
    """Return what parts of `problem` write."""
    k, q, v, strength, gate = parts
    if update.unit_keys:
        k, q = (part / part.norm(dim=-1, keepdim=True) for part in (k, q))
    log_beta = torch.nn.functional.logsigmoid(strength) + np.log(update.largest_write)
    return Write(k, q, v, log_beta, update.log_gamma(gate if update.gated else None, log_beta))


def some_state(update: Update, batch: int = BATCH, seed: int = 2) -> Any:
    """Return a state in the middle of an episode."""
    generator = seeded(seed)
    empty = update.initial_state(batch, torch.zeros(1, dtype=torch.float64))
    drawn = [torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in empty]
    if isinstance(empty, MesaState):
        drawn[0] = drawn[0] @ drawn[0].mT
    if isinstance(empty, AttentionState):
        drawn[2] = drawn[2].sigmoid().masked_fill(drawn[2] < 0, 0)
        drawn[2][..., -1] = 0.5  # one place at least is taken
    return type(empty)(*(leaf.requires_grad_() for leaf in drawn))


def some_starts(steps: int, batch: int = BATCH, share: float = 0.2) -> Tensor:
    """Return where episodes start, bool [B, T]."""
    return torch.rand(batch, steps, generator=seeded(3)) < share


def step_by_step(update: Update) -> Callable[..., tuple[Tensor, Any]]:
    """Return a function that computes what an update does, by its equation."""
    return lambda *args: naive.run(update, *args)


def together(update: Update, parts: list[Tensor]) -> Tensor:
    """Return parts of `problem` as the maps of a layer make them, [B, T, …]."""
    k, q, v, strength, gate = parts
    scalars = [strength, gate] if update.gated else [strength]
    pieces = [k, q, v, *(scalar.unsqueeze(-1) for scalar in scalars)]
    return torch.cat([piece.transpose(1, 2).flatten(2) for piece in pieces], dim=-1)


def in_c(update: Update, projected: Tensor) -> Callable[..., tuple[Tensor, Any]]:
    """Return a function that computes what an update does, in C, of what a layer makes."""

    def compute(_: Write, state: Any, starts: Tensor | None) -> tuple[Tensor, Any]:
        reads, final = cpu.run(update, projected, state, starts)
        return reads.view(*reads.shape[:2], update.heads, -1).transpose(1, 2), final

    return compute


def results(
    update: Update,
    compute: Callable[..., tuple[Tensor, Any]],
    parts: list[Tensor],
    state: Any,
    starts: Tensor | None,
) -> Results:
    """Return reads, final state and every gradient."""
    reads, final = compute(writes(update, parts), state, starts)
    weights = torch.linspace(-1, 1, reads.numel(), dtype=reads.dtype).view_as(reads)
    loss = (reads * weights).sum()
    for leaf in final:
        loss = loss + leaf.square().sum()
    inputs = dict(zip(("k", "q", "v", "strength", "gate"), parts, strict=True))
    inputs |= {} if state is None else {f"state.{n}": p for n, p in state._asdict().items()}
    inputs |= dict(update.named_parameters())
    gradients = torch.autograd.grad(
        loss, list(inputs.values()), allow_unused=True, materialize_grads=True
    )
    found = {"reads": reads} | {f"final.{name}": leaf for name, leaf in final._asdict().items()}
    found |= {f"grad.{name}": each for name, each in zip(inputs, gradients, strict=True)}
    return {name: part.detach() for name, part in found.items()}


def numpy_results(
    update: Update, write: Write, state: Any = None, starts: Tensor | None = None
) -> Results:
    """Compute reads and final state sample by sample and episode by episode, in NumPy."""
    if state is None:
        state = update.initial_state(len(write.k), write.k)
    reads = np.zeros(write.v.shape)
    final = {name: np.zeros(leaf.shape) for name, leaf in state._asdict().items()}
    steps = reads.shape[2]
    for b, h in itertools.product(range(reads.shape[0]), range(reads.shape[1])):
        memory = [leaf[b, h].detach().numpy() for leaf in state]
        begins = [] if starts is None else starts[b].nonzero()[:, 0].tolist()
        for first, end in itertools.pairwise(sorted({0, *begins, steps})):
            if first in begins:
                memory = [np.zeros_like(leaf) for leaf in memory]
            episode = _arrays(write, b, h, slice(first, end))
            reads[b, h, first:end], memory = _in_numpy(update, h, episode, memory)
        for leaf, found in zip(final.values(), memory, strict=True):
            leaf[b, h] = found
    found = {"reads": reads} | {f"final.{name}": leaf for name, leaf in final.items()}
    return {name: torch.from_numpy(leaf) for name, leaf in found.items()}


def _arrays(write: Write, b: int, h: int, steps: slice) -> Arrays:
    *vectors, log_beta, log_gamma = write
    gamma = torch.ones_like(log_beta) if log_gamma is None else log_gamma.exp()
    parts = (*vectors, log_beta.exp(), gamma)
    return [part[b, h, steps].detach().numpy() for part in parts]


def _in_numpy(update: Update, head: int, episode: Arrays, memory: Arrays) -> tuple[Any, Arrays]:
    """Return the reads of an episode [T, dv], and the memory after it."""
    if isinstance(update, Mesa):
        return _mesa(update.ridge[head].detach().numpy(), episode, memory)
    if isinstance(update, Attention):
        return _attention(update, update.log_kappa[head].exp().item(), episode, memory)
    return (_delta if isinstance(update, Delta) else _hebbian)(episode, memory)


def _hebbian(episode: Arrays, memory: Arrays) -> tuple[Any, Arrays]:
    """Sum over all steps so far: Σ (Π γ) β v (k · q)."""
    (start,) = memory
    k, q, v, beta, gamma = episode
    reads = []
    for t in range(len(k)):
        shares = _shares(gamma, t) * beta[: t + 1]
        reads.append(v[: t + 1].T @ (shares * (k[: t + 1] @ q[t])))
        reads[-1] += np.prod(gamma[: t + 1]) * q[t] @ start
    return reads, [np.prod(gamma) * start + (k * shares[:, None]).T @ v]


def _delta(episode: Arrays, memory: Arrays) -> tuple[Any, Arrays]:
    """As the papers write it: S ← S (γ (I − β k kᵀ)) + β v kᵀ, the state transposed."""
    s, reads = memory[0].T, []
    for k, q, v, beta, gamma in zip(*episode, strict=True):
        s = s @ (gamma * (np.eye(len(k)) - beta * np.outer(k, k))) + beta * np.outer(v, k)
        reads.append(s @ q)
    return reads, [s.T]


def _mesa(ridge: NDArray[np.float64], episode: Arrays, memory: Arrays) -> tuple[Any, Arrays]:
    """Regularised least squares over all steps so far, solved anew each time."""
    k, q, v, beta, gamma = episode
    reads = []
    for t in range(len(k)):
        weighted = (_shares(gamma, t) * beta[: t + 1])[:, None] * k[: t + 1]
        kept = np.prod(gamma[: t + 1])
        sums = [kept * memory[0] + weighted.T @ k[: t + 1], kept * memory[1]]
        sums[1] = sums[1] + weighted.T @ v[: t + 1]
        reads.append(np.linalg.solve(sums[0] + np.diag(ridge), sums[1]).T @ q[t])
    return reads, sums


def _attention(
    update: Attention, kappa: float, episode: Arrays, memory: Arrays
) -> tuple[Any, Arrays]:
    """Softmax over the last steps, by their scores."""
    k, q, v, beta, _ = episode
    keys, values, strengths = (
        np.concatenate(both) for both in zip(memory, (k, v, beta), strict=True)
    )
    reads = []
    for t in range(len(k)):
        held = slice(t + 1, t + 1 + update.context)  # of what was there, and the steps
        if update.match == "dot":
            scores = kappa * keys[held] @ q[t]
        else:
            scores = -kappa * ((keys[held] - q[t]) ** 2).sum(1)
        weights = strengths[held] * np.exp(scores - scores.max())
        reads.append(weights @ values[held] / weights.sum())
    return reads, [part[-update.context :] for part in (keys, values, strengths)]


def _shares(gamma: NDArray[np.float64], t: int) -> NDArray[np.float64]:
    """Return what is left at step t of what each step up to it wrote."""
    return np.array([np.prod(gamma[i + 1 : t + 1]) for i in range(t + 1)])
