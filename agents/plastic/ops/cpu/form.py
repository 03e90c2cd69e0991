"""The compiled form: forward and backward pass by hand, one sample at a time, in C.

The fast weights of a sample stay in the processor's cache while its whole sequence is computed. The
forward pass keeps the factors of the writes, [B, T, hidden], and no fast weights; the backward
pass makes them again, segment by segment. Time grows linearly with T, memory with T · hidden.
Derivation: docs/fast-engine.md. For CPU tensors of float32 or float64; see `obstacle`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.plastic.cells import Cell, LSTMCell, RNNCell
from agents.plastic.ops import closed
from agents.plastic.ops.cpu import library, plain
from agents.plastic.ops.cpu.library import Problem
from agents.plastic.ops.interface import LayerParameters, NetworkParameters, Probes
from agents.plastic.rules import Gradient, Hebbian, Rule, inner_loss, is_exactly
from agents.plastic.state import FastWeights, PlasticState


def obstacle(
    rule: Rule, cell: Cell, tensors: Sequence[Tensor], *, taught: bool = False
) -> str | None:
    """Name what keeps this form from computing a problem, here and now; None if it can.

    Args:
        rule: Plasticity rule.
        cell: Recurrent cell.
        tensors: Parameters, and input and state if they are known.
        taught: Whether the last entries of inputs join the readout.
    """
    if (name := plain.follower()) is not None:
        return f"{name} cannot look into compiled code"
    if not is_exactly(rule, Gradient, Hebbian):
        return f"the rule is a {type(rule).__name__}, which is not Gradient or Hebbian as they are"
    if not is_exactly(cell, RNNCell, LSTMCell):
        return f"the cell is a {type(cell).__name__}, which is not RNNCell or LSTMCell as they are"
    if taught:
        return "the readout is taught (teaching_size)"
    if rule.weight_clip is not None:
        return "the rule has a weight_clip"
    if tensors[0].dtype not in (torch.float32, torch.float64):
        return f"parameters are {tensors[0].dtype}, and not float32 or float64"
    if not plain.are_plain(tensors):
        return "a tensor is not on the CPU, not dense, or of a class that is not torch's own"
    if library.load() is None:
        return library.absence()
    return None


def run(
    parameters: NetworkParameters,
    rule: Rule,
    cell: Cell,
    x: Tensor,
    state: PlasticState,
    episode_starts: Tensor | None,
    *,
    probe: bool,
) -> tuple[Tensor, PlasticState, Probes | None]:
    """Run the network as `agents.plastic.ops.interface.Form` says.

    Tensors must have the shapes that `Form` names, and one type.
    """
    setting, given = _Setting(rule, cell), _Given(x, parameters, state)
    if torch.is_grad_enabled():
        flat = _Run.apply(setting, episode_starts, _emptied(given), *_leaves(given))  # type: ignore[no-untyped-call]
        outcome = _outcome_of(state, flat)
    else:
        outcome, _ = _forward(setting, episode_starts, given)
    if not probe:
        return outcome.output, outcome.state, None
    eta, decay, norm2 = (rate.detach() for rate in outcome.rates)
    detached = outcome.output.detach()
    eta_before_clip, _ = rule.rates(detached)
    loss = inner_loss(detached, parameters.output_weight.detach())
    probes = Probes(eta, eta_before_clip, decay, norm2.sqrt(), loss)
    return outcome.output, outcome.state, probes


class _Setting(NamedTuple):
    """What a run is besides its tensors."""

    rule: Rule
    cell: Cell

    @property
    def is_gradient(self) -> bool:
        return isinstance(self.rule, Gradient)


class _Given(NamedTuple):
    """The tensors that a run is a function of; or which of them need a gradient; or that."""

    x: Any
    parameters: NetworkParameters
    state: PlasticState


class _Rates(NamedTuple):
    """η, λ and n² of every step, each [B, T]."""

    eta: Any
    decay: Any
    norm2: Any


class _Outcome(NamedTuple):
    """What a run gives: readout units [B, T, readout], the last state, and the rates."""

    output: Any
    state: PlasticState
    rates: _Rates


Arrays = dict[str, Any]
"""What the kernel is given, by the names of csrc/kernel.h: tensors, or tensors by layer."""


# The leaves of these trees in one order, and trees like another of leaves that come in this order.


def _leaves(given: _Given) -> list[Any]:
    layers, omega, _ = given.parameters
    return [given.x, omega, *chain.from_iterable(layers.values()), *_state_leaves(given.state)]


def _state_leaves(state: PlasticState) -> list[Any]:
    return [*state.hidden, *chain.from_iterable(state.fast.values())]


def _given_of(like: _Given, leaves: Iterator[Any]) -> _Given:
    x, omega = next(leaves), next(leaves)
    layers = {
        name: LayerParameters(next(leaves), next(leaves), next(leaves), next(leaves))
        for name in like.parameters.layers
    }
    return _Given(x, NetworkParameters(layers, omega), _state_of(like.state, leaves))


def _state_of(like: PlasticState, leaves: Iterator[Any]) -> PlasticState:
    hidden = type(like.hidden)(*(next(leaves) for _ in like.hidden))
    fast = {name: FastWeights(next(leaves), next(leaves)) for name in like.fast}
    return like._replace(hidden=hidden, fast=fast)


def _outcome_of(state: PlasticState, leaves: Iterable[Any]) -> _Outcome:
    """Return what a run from this state gives."""
    left = iter(leaves)
    return _Outcome(next(left), _state_of(state, left), _Rates(*left))


def _emptied(given: _Given) -> _Given:
    """Return a tree like this that holds nothing."""
    return _given_of(given, repeat(None))


class _Run(torch.autograd.Function):
    """The sequence as one function of its tensors, the leaves of a `_Given`."""

    @staticmethod
    def forward(
        ctx: Any,
        setting: _Setting,
        episode_starts: Tensor | None,
        like: _Given,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        outcome, made = _forward(setting, episode_starts, _given_of(like, iter(tensors)))
        kept = (*tensors, *made.values())
        ctx.set_materialize_grads(False)
        ctx.setting, ctx.like, ctx.made_names = setting, like, tuple(made)
        ctx.kinds = _kinds(kept)
        ctx.save_for_backward(*kept)
        ctx.mark_non_differentiable(*outcome.rates)
        output = outcome.output.clone()  # the user may write into it
        return output, *_state_leaves(outcome.state), *outcome.rates

    @staticmethod
    def backward(ctx: Any, *given_grads: Tensor | None) -> Any:
        saved: tuple[Tensor | None, ...] = ctx.saved_tensors  # checkpoints give them only once
        if _kinds(saved) != ctx.kinds:
            raise RuntimeError("a hook returned a saved tensor with another shape or dtype")
        left: Iterator[Any] = iter(saved)
        given = _given_of(ctx.like, left)
        made: dict[str, Tensor] = dict(zip(ctx.made_names, left, strict=True))
        grads = _outcome_of(given.state, given_grads)
        _, _, _, *needs_grad = ctx.needs_input_grad
        needs = _given_of(ctx.like, iter(needs_grad))

        arrays = [leaf for leaf in saved if leaf is not None]
        incoming = [grad for grad in given_grads if grad is not None]
        followed = torch.is_grad_enabled() or plain.follower() is not None
        if followed or not (plain.are_plain([*arrays, *incoming]) and plain.are_stored(incoming)):
            found = _backward_by_autograd(ctx.setting, given, made, needs, grads)
        else:
            found = _backward(ctx.setting, given, made, needs, grads)
        pairs = zip(_leaves(found), needs_grad, strict=True)
        return None, None, None, *(grad if need else None for grad, need in pairs)


def _kinds(kept: Sequence[Tensor | None]) -> list[object]:
    return [None if leaf is None else (leaf.shape, leaf.dtype) for leaf in kept]


def _backward_by_autograd(
    setting: _Setting, given: _Given, made: dict[str, Tensor], needs: _Given, grads: _Outcome
) -> _Given:
    """Return the gradients of all tensors by the closed form, with a graph if one is wanted."""
    create_graph, starts = torch.is_grad_enabled(), made.get("starts")
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # Not the tensors themselves: one may have been computed from another.
        views = (None if leaf is None else leaf.view_as(leaf) for leaf in _leaves(given))
        given = _given_of(given, views)
        output, final, _ = closed.run(
            given.parameters,
            setting.rule,
            setting.cell,
            given.x,
            given.state,
            None if starts is None else starts.view(torch.bool),
            probe=False,
        )
        results = [output, *_state_leaves(final)]
        pairs = zip(results, [grads.output, *_state_leaves(grads.state)], strict=True)
        used = [pair for pair in pairs if pair[1] is not None and pair[0].requires_grad]
        wanted = zip(_leaves(given), _leaves(needs), strict=True)
        found = iter(
            torch.autograd.grad(
                [result for result, _ in used],
                [leaf for leaf, need in wanted if need],
                [grad for _, grad in used],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return _given_of(given, (next(found) if need else None for need in _leaves(needs)))


def _backward(
    setting: _Setting, given: _Given, made: dict[str, Tensor], needs: _Given, grads: _Outcome
) -> _Given:
    """Return the gradients of all tensors by the kernel."""
    arrays = _arrays(setting, given)
    arrays |= {name: leaf.contiguous() for name, leaf in made.items()}
    if grads.output is None:
        arrays["grad_o"] = torch.zeros_like(arrays["output"])
    else:  # the kernel adds to it
        arrays["grad_o"] = grads.output.clone(memory_format=torch.contiguous_format)
    arrays["grad_q"], arrays["grad_x"] = unfilled(arrays["activity"]), unfilled(arrays["x"])
    has_encoder = "encoder" in arrays["weight"]
    if has_encoder:
        arrays["grad_a"] = unfilled(arrays["h"])
    if setting.is_gradient:
        arrays["grad_gh"] = unfilled(arrays["h"])
        if has_encoder:
            arrays["grad_u"] = unfilled(arrays["h"])

    wanted = needs.state.fast
    for name in given.state.hidden._asdict():
        arrays[f"grad_{name}0"] = unfilled(arrays[f"{name}0"])
    arrays["grad_fast0"] = {
        name: unfilled(leaf) if wanted[name].weight else None
        for name, leaf in arrays["fast0"].items()
    }
    arrays["grad_fast_bias0"] = {
        name: unfilled(leaf) if wanted[name].bias else None
        for name, leaf in arrays["fast_bias0"].items()
    }
    arrays |= _state_arrays("grad_", grads.state, "1")
    sums = _problem(setting, arrays).run(
        "backward",
        grad_alpha=arrays["alpha"],
        grad_bias_alpha=arrays["bias_alpha"],
        grad_omega=arrays["omega"],
    )

    slow = _slow_gradients(arrays)
    layers = {
        name: LayerParameters(
            *slow[name], sums["grad_alpha"][name], sums["grad_bias_alpha"].get(name)
        )
        for name in given.parameters.layers
    }
    parameters = NetworkParameters(layers, sums["grad_omega"])
    return _Given(arrays["grad_x"], parameters, _state_in("grad_", arrays, "0", given.state))


def _forward(
    setting: _Setting, episode_starts: Tensor | None, given: _Given
) -> tuple[_Outcome, dict[str, Tensor]]:
    """Run the forward pass; also return what else the backward pass needs, by its name there."""
    arrays = _arrays(setting, given)
    made = _made(setting, arrays)
    if episode_starts is not None:
        made["starts"] = episode_starts.contiguous().view(torch.uint8)
    arrays |= made
    for kind in ("fast", "fast_bias"):
        before = arrays[f"{kind}0"]
        arrays[f"{kind}1"] = {name: unfilled(leaf) for name, leaf in before.items()}
    _problem(setting, arrays).run("forward")

    last = {f"{name}1": made[name][:, -1].clone() for name in given.state.hidden._asdict()}
    final = _state_in("", arrays | last, "1", given.state)
    rates = _Rates(made["eta"], made["decay"], made["norm2"])
    return _Outcome(made["output"], final, rates), made


def _made(setting: _Setting, arrays: Arrays) -> dict[str, Tensor]:
    """Return the arrays that the forward pass fills and the backward pass reads."""
    x, hidden, gates = arrays["x"], arrays["h0"].shape[1], setting.cell.gates
    batch, steps, _ = x.shape
    made = {
        "activity": unfilled(x, batch, steps, gates * hidden),
        "h": unfilled(x, batch, steps, hidden),
        "output": unfilled(x, batch, steps, len(arrays["omega"])),
        "eta": unfilled(x, batch, steps),
        "decay": unfilled(x, batch, steps),
        "norm2": unfilled(x, batch, steps),
    }
    has_encoder = "encoder" in arrays["weight"]
    if has_encoder:
        made["encoded"] = unfilled(x, batch, steps, hidden)
    if "c0" in arrays:
        made["c"] = unfilled(x, batch, steps, hidden)
    if setting.is_gradient:
        made["post_q"] = unfilled(x, batch, steps, gates * hidden)
        if has_encoder:
            made["post_e"] = unfilled(x, batch, steps, hidden)
    return made


def unfilled(like: Tensor, *shape: int) -> Tensor:
    """Return memory that the kernel fills: of a shape, or in shape and order as another tensor."""
    return like.new_empty(*shape) if shape else torch.empty_like(like)


def _arrays(setting: _Setting, given: _Given) -> Arrays:
    """Return what the kernel reads of what was given."""
    x, omega = given.x.contiguous(), given.parameters.output_weight.contiguous()
    arrays = {"x": x, "omega": omega} | _state_arrays("", given.state, "0")
    kinds: tuple[dict[str, Tensor], ...] = {}, {}, {}, {}
    weight, bias, alpha, bias_alpha = kinds
    for name, layer in given.parameters.layers.items():
        weight[name], bias[name] = _by_rows(name, layer.weight), layer.bias.contiguous()
        if layer.weight_alpha is None:
            alpha[name] = torch.ones_like(weight[name])
        else:
            alpha[name] = _by_rows(name, layer.weight_alpha)
        if layer.bias_alpha is not None:
            bias_alpha[name] = layer.bias_alpha.contiguous()
        elif setting.is_gradient:  # other rules do not write biases
            bias_alpha[name] = torch.ones_like(layer.bias)
    arrays |= {"weight": weight, "bias": bias, "alpha": alpha, "bias_alpha": bias_alpha}
    if "encoder" not in weight:
        arrays["encoded"] = x
    return arrays


def _state_arrays(before: str, state: PlasticState, after: str) -> Arrays:
    """Return a state, or gradients of one, as the kernel reads it, its names between two parts."""
    arrays: Arrays = {
        f"{before}{name}{after}": None if leaf is None else leaf.contiguous()
        for name, leaf in state.hidden._asdict().items()
    }
    weights, biases = {}, {}
    for name, (weight, bias) in state.fast.items():
        weights[name] = None if weight is None else _by_rows(name, weight)
        biases[name] = None if bias is None else bias.contiguous()
    arrays[f"{before}fast{after}"], arrays[f"{before}fast_bias{after}"] = weights, biases
    return arrays


def _state_in(before: str, arrays: Arrays, after: str, like: PlasticState) -> PlasticState:
    """Return the state, or gradients of one, that has such names among the arrays."""
    hidden = [arrays[f"{before}{name}{after}"] for name in like.hidden._asdict()]
    weights, biases = arrays[f"{before}fast{after}"], arrays[f"{before}fast_bias{after}"]
    fast = {name: FastWeights(weights[name], biases[name]) for name in like.fast}
    return like._replace(hidden=type(like.hidden)(*hidden), fast=fast)


def _by_rows(name: str, matrix: Tensor) -> Tensor:
    """Store a matrix by rows; that of the readout, whose few units make bad rows, by columns."""
    return matrix.mT.contiguous().mT if name == "readout" else matrix.contiguous()


def _problem(setting: _Setting, arrays: Arrays) -> Problem:
    rule, (batch, steps, inputs) = setting.rule, arrays["x"].shape
    numbers = {
        "batch": batch,
        "time": steps,
        "input": inputs,
        "hidden": arrays["h0"].shape[1],
        "gates": setting.cell.gates,
        "readout": len(arrays["omega"]),
        "has_encoder": "encoder" in arrays["weight"],
        "gradient_rule": setting.is_gradient,
        "modulation": rule.modulation,
        "segment": math.ceil(math.sqrt(steps)),
        "base_eta": rule.base_eta,
        "base_decay": rule.base_decay,
        "max_norm": rule.max_norm,
    }
    return Problem(arrays["x"].dtype, numbers | arrays)


def _slow_gradients(arrays: Arrays) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the gradients of W and b by layer, as sums over samples and steps."""
    h, grad_q, grad_o = arrays["h"], arrays["grad_q"], arrays["grad_o"]
    h_before = torch.cat([arrays["h0"].unsqueeze(1), h[:, :-1]], dim=1)
    if "starts" in arrays:
        h_before = h_before.masked_fill(arrays["starts"].view(torch.bool).unsqueeze(2), 0)

    def product(left: Tensor, right: Tensor) -> Tensor:
        return left.flatten(0, 1).T @ right.flatten(0, 1)

    cell_input, readout = product(arrays["encoded"], grad_q), product(grad_o, h)
    if "grad_gh" in arrays:
        omega = arrays["omega"]
        post_o = (2 / len(omega)) * omega * omega * arrays["output"]
        readout += product(post_o, arrays["grad_gh"])
    if "grad_u" in arrays:
        cell_input += product(arrays["grad_u"], arrays["post_q"])
    bias_q = grad_q.sum((0, 1))
    gradients = {
        "cell_input": (cell_input, bias_q),
        "cell_hidden": (product(h_before, grad_q), bias_q.clone()),
        "readout": (readout.T, grad_o.sum((0, 1))),
    }
    if "grad_a" in arrays:
        grad_a = arrays["grad_a"]
        gradients["encoder"] = (product(arrays["x"], grad_a), grad_a.sum((0, 1)))
    return gradients
