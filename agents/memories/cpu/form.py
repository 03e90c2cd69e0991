"""The compiled form: from projected features to what is read, in C.

Memories are computed several at a time, one in each lane of the processor's vectors, step by step,
their state in the cache for the whole sequence. The backward pass takes one sweep forwards in time
and one backwards, and keeps no states: time and memory grow linearly with T. Derivation:
docs/memories/compiled.md. For CPU tensors of float32 or float64; see `obstacle`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.memories.cpu import library
from agents.memories.updates import (
    Delta,
    GatedDelta,
    Hebbian,
    MatrixState,
    Mesa,
    MesaState,
    Update,
)
from agents.plastic.ops.cpu import plain

_KINDS: dict[type[Update], tuple[int, Any]] = {
    Hebbian: (library.KINDS.index("hebbian"), MatrixState),
    Delta: (library.KINDS.index("delta"), MatrixState),
    GatedDelta: (library.KINDS.index("delta"), MatrixState),
    Mesa: (library.KINDS.index("mesa"), MesaState),
}

Arrays = dict[str, Tensor | None]
"""What the kernel is given, by the names of csrc/memory.h."""


def compiles(update: Update) -> bool:
    """Say whether there is a compiled form of a memory."""
    return type(update) in _KINDS


def obstacle(update: Update, projected: Tensor, state: Any) -> str | None:
    """Name what keeps this form from computing a memory, here and now; None if it can."""
    if not compiles(update):
        return f"the memory is a {type(update).__name__}, which has no compiled form"
    if (name := plain.follower()) is not None:
        return f"{name} cannot look into compiled code"
    if projected.dtype not in library.SUFFIXES:
        return f"features are {projected.dtype}, and not float32 or float64"
    if not plain.are_plain([leaf for leaf in _given(update, projected, state) if leaf is not None]):
        return "a tensor is not on the CPU, not dense, or of a class that is not torch's own"
    if library.load() is None:
        return library.absence()
    return None


def pays(update: Update, projected: Tensor) -> bool:
    """Say whether this form is likely to be the faster one.

    The exception are sequences with large keys in mesa without forgetting, which the chunked form
    solves in the size of a chunk (keys of 128, 40 steps: 2.8 against 2.1 times an LSTM).
    """
    large = isinstance(update, Mesa) and update.keep is None and update.key_size > 64
    return not large or projected.shape[1] == 1 or projected.dim() == 2


def run(
    update: Update, projected: Tensor, state: Any, episode_starts: Tensor | None
) -> tuple[Tensor, Any]:
    """Write and read at every step of a sequence.

    Args:
        update: A memory without `obstacle`.
        projected: Features [B, T, …] as `Update.writes` takes them.
        state: Before the first step; None for an empty memory.
        episode_starts: bool [B, T], or None.

    Returns:
        What is read [B, T, heads · dv], and the state after the last step.
    """
    given = _given(update, projected, state)
    if torch.is_grad_enabled():
        reads, *after = _Run.apply(update, episode_starts, *given)  # type: ignore[no-untyped-call]
    else:
        reads, *after = _forward(update, episode_starts, given, None)
    _, state_type = _KINDS[type(update)]
    return reads, state_type(*after)


class _Given(NamedTuple):
    """The tensors that a run is a function of, or their gradients."""

    projected: Any
    keep: Any
    log_ridge: Any
    matrix: Any = None
    values: Any = None


def _given(update: Update, projected: Tensor, state: Any) -> _Given:
    log_ridge = update.log_ridge if isinstance(update, Mesa) else None
    return _Given(projected, update.keep, log_ridge, *(state or ()))


class _Run(torch.autograd.Function):
    """The sequence as one function of its tensors."""

    @staticmethod
    def forward(
        ctx: Any, update: Update, episode_starts: Tensor | None, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        given = _Given(*tensors)
        memories, lanes = library.groups(len(given.projected) * update.heads, given.projected.dtype)
        size = update.key_size if isinstance(update, Mesa) else update.value_size
        steps = given.projected.shape[1]
        made = unfilled(given.projected, memories, steps, size, lanes)
        results = _forward(update, episode_starts, given, made)
        ctx.update = update
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*given, episode_starts, made)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        *tensors, starts, made = ctx.saved_tensors  # checkpoints give them only once
        _, _, *needs = ctx.needs_input_grad
        given, arrays = _Given(*tensors), [leaf for leaf in tensors if leaf is not None]
        incoming = [grad for grad in grads if grad is not None]
        followed = torch.is_grad_enabled() or plain.follower() is not None
        if followed or not (plain.are_plain([*arrays, *incoming]) and plain.are_stored(incoming)):
            found: Sequence[Any] = _backward_by_autograd(ctx.update, starts, given, needs, grads)
        else:
            found = _backward(ctx.update, starts, given, made, grads)
        pairs = zip(found, needs, strict=False)  # no more than were given
        return None, None, *(grad if need else None for grad, need in pairs)


def unfilled(like: Tensor, *shape: int) -> Tensor:
    """Return memory that the kernel fills."""
    return like.new_empty(*shape)


def _forward(
    update: Update, episode_starts: Tensor | None, given: _Given, made: Tensor | None
) -> tuple[Tensor, ...]:
    """Compute reads and final state, and what the backward pass needs of them into `made`."""
    x, shape = given.projected, _shape(update, given)
    results = [unfilled(x, *x.shape[:2], update.heads * update.value_size)]
    results += [unfilled(x, *shape[:2], *sizes) for sizes in _sizes(update)]
    arrays = _arrays(update, episode_starts, given)
    arrays |= dict(zip(("reads", "matrix1", "values1"), results, strict=False))
    library.run("forward", _numbers(update, x), arrays | {"made": made})
    return tuple(results)


def _backward(
    update: Update,
    episode_starts: Tensor | None,
    given: _Given,
    made: Tensor,
    grads: Sequence[Tensor | None],
) -> _Given:
    """Return the gradients of all tensors by the kernel."""
    x, shape = given.projected, _shape(update, given)
    arrays = _arrays(update, episode_starts, given)
    stored = [None if grad is None else grad.contiguous() for grad in grads]
    arrays |= dict(zip(("grad_reads", "grad_matrix1", "grad_values1"), stored, strict=False))
    by_keep = None if given.keep is None else unfilled(x, *shape[:2])
    by_ridge = None if given.log_ridge is None else unfilled(x, *shape)
    found = _Given(
        unfilled(x, *x.shape),
        by_keep,
        by_ridge,
        *(unfilled(x, *shape[:2], *sizes) for sizes in _sizes(update) if given.matrix is not None),
    )
    names = ("grad_x", "grad_keep", "grad_ridge", "grad_matrix0", "grad_values0")
    arrays |= dict(zip(names, found, strict=True))
    library.run("backward", _numbers(update, x), arrays | {"made": _aligned(made)})
    if by_keep is not None:
        found = found._replace(keep=by_keep.sum(0))
    if by_ridge is not None:
        found = found._replace(log_ridge=by_ridge.sum(0) * given.log_ridge.exp())
    return found


def _backward_by_autograd(
    update: Update,
    episode_starts: Tensor | None,
    given: _Given,
    needs: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Return the gradients of all tensors by the form in PyTorch, with a graph if one is wanted."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # Not the tensors themselves: one may have been computed from another.
        tensors = [None if leaf is None else leaf.view_as(leaf) for leaf in given]
        views, (_, state_type) = _Given(*tensors), _KINDS[type(update)]
        state = [leaf for leaf in views[3:] if leaf is not None]
        names = {"update.keep": views.keep, "update.log_ridge": views.log_ridge}
        reads, final = torch.func.functional_call(
            _Chunked(update),
            {name: leaf for name, leaf in names.items() if leaf is not None},
            (views.projected, state_type(*state) if state else None, episode_starts),
        )
        pairs = zip([reads, *final], grads, strict=True)
        used = [pair for pair in pairs if pair[1] is not None and pair[0].requires_grad]
        wanted = [leaf for leaf, need in zip(views, needs, strict=False) if need]
        found = iter(
            torch.autograd.grad(
                [result for result, _ in used],
                wanted,
                [grad for _, grad in used],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return [next(found) if need else None for need in needs]


class _Chunked(nn.Module):
    """The same in PyTorch."""

    def __init__(self, update: Update) -> None:
        super().__init__()
        self.update = update

    def forward(
        self, projected: Tensor, state: Any, episode_starts: Tensor | None
    ) -> tuple[Tensor, Any]:
        reads, state = self.update(self.update.writes(projected), state, episode_starts)
        return reads.transpose(1, 2).flatten(2), state


def _numbers(update: Update, projected: Tensor) -> tuple[int | float, ...]:
    batch, steps, _ = projected.shape
    kind, _ = _KINDS[type(update)]
    sizes = update.heads, update.key_size, update.value_size
    return batch, steps, *sizes, kind, update.unit_keys, update.gated, update.largest_write


def _shape(update: Update, given: _Given) -> tuple[int, int, int]:
    return len(given.projected), update.heads, update.key_size


def _sizes(update: Update) -> list[tuple[int, int]]:
    """Return the sizes of the matrices of a state."""
    key, value = update.key_size, update.value_size
    return [(key, key), (key, value)] if isinstance(update, Mesa) else [(key, value)]


def _arrays(update: Update, episode_starts: Tensor | None, given: _Given) -> Arrays:
    """Return what the kernel reads of what was given."""
    names = "x", "keep", "ridge", "matrix0", "values0"
    arrays: Arrays = dict(zip(names, given, strict=True))
    if isinstance(update, Mesa):
        arrays["ridge"] = given.log_ridge.exp() + update.least_ridge
    if episode_starts is not None:
        arrays["starts"] = episode_starts.view(torch.uint8)
    return {name: None if leaf is None else leaf.contiguous() for name, leaf in arrays.items()}


def _aligned(made: Tensor) -> Tensor:
    """Return contiguous memory that begins where a vector can: a hook may have moved it."""
    made = made.contiguous()
    return made.clone() if made.data_ptr() % library.VECTOR_BYTES else made
