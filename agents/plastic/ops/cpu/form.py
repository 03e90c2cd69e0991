"""The compiled form: forward and backward pass by hand, one sample at a time, in C.

The fast weights of a sample stay in the processor's cache while its whole sequence is computed. The
forward pass keeps the factors of the writes, [B, T, hidden], and no fast weights; the backward
pass makes them again, segment by segment. Time grows linearly with T, memory with T · hidden.
Derivation: docs/fast-engine.md. For CPU tensors of float32 or float64; see `obstacle`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.plastic.cells import Cell, LSTMCell, RNNCell
from agents.plastic.ops import closed
from agents.plastic.ops.cpu import library, plain
from agents.plastic.ops.cpu.library import Problem
from agents.plastic.ops.interface import LayerParameters, NetworkParameters, Probes
from agents.plastic.rules import Gradient, Hebbian, Rule, inner_loss, is_exactly
from agents.plastic.state import FastWeights, Hidden, LSTMHidden, PlasticState, RNNHidden

_NAMES = ("encoder", "cell_input", "cell_hidden", "readout")
_FIRST = 2  # arguments of `_Run.forward` before the tensors


def obstacle(rule: Rule, cell: Cell, tensors: Sequence[Tensor]) -> str | None:
    """Name what keeps this form from computing a problem, here and now; None if it can.

    Args:
        rule: Plasticity rule.
        cell: Recurrent cell.
        tensors: Parameters, and input and state if they are known.
    """
    if (name := plain.follower()) is not None:
        return f"{name} cannot look into compiled code"
    if not is_exactly(rule, Gradient, Hebbian):
        return f"the rule is a {type(rule).__name__}, which is not Gradient or Hebbian as they are"
    if not is_exactly(cell, RNNCell, LSTMCell):
        return f"the cell is a {type(cell).__name__}, which is not RNNCell or LSTMCell as they are"
    if rule.weight_clip is not None:
        return "the rule has a weight_clip"
    if tensors[0].dtype not in (torch.float32, torch.float64):
        return f"parameters are {tensors[0].dtype}, and not float32 or float64"
    if not plain.are_plain(tensors):
        return "a tensor is not on the CPU, not dense, or of a class that is not torch's own"
    if library.load() is None:
        return "its kernel was not built"
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
    setting = _Setting(rule, cell, "encoder" in parameters.layers)
    flat_parameters = []
    for name, layer in parameters.layers.items():
        alphas = [
            torch.ones_like(slow) if alpha is None else alpha
            for slow, alpha in ((layer.weight, layer.weight_alpha), (layer.bias, layer.bias_alpha))
        ]
        flat_parameters += _as_stored(name, [layer.weight, layer.bias, *alphas])
    tensors = [x, parameters.output_weight, *setting.flattened(state), *flat_parameters]
    results: tuple[Tensor, ...]
    if torch.is_grad_enabled():
        results = _Run.apply(setting, episode_starts, *tensors)  # type: ignore[no-untyped-call]
    else:
        results = _forward(setting, episode_starts, *tensors)[0]
    output, rates = results[0], results[1:4]
    final = setting.unflattened(results[4:], type(state.hidden))
    if not probe:
        return output, final, None
    eta, decay, norm2 = (rate.detach() for rate in rates)
    detached = output.detach()
    eta_before_clip, _ = rule.rates(detached)
    loss = inner_loss(detached, parameters.output_weight.detach())
    return output, final, Probes(eta, eta_before_clip, decay, norm2.sqrt(), loss)


class _Setting(NamedTuple):
    """What a run is besides its tensors."""

    rule: Rule
    cell: Cell
    has_encoder: bool

    @property
    def names(self) -> tuple[str, ...]:
        return _NAMES if self.has_encoder else _NAMES[1:]

    def flattened(self, state: PlasticState) -> list[Tensor]:
        """Return the tensors of a state in order, those of the readout as they are stored."""
        flat: list[Tensor] = list(state.hidden)
        for name in self.names:
            flat += _as_stored(name, list(state.fast[name]))
        return flat

    def unflattened(self, flat: Sequence[Tensor], hidden: Callable[..., Hidden]) -> PlasticState:
        """Return the state that `flattened` makes these tensors of."""
        first = len(flat) - 2 * len(self.names)
        pairs = zip(flat[first::2], flat[first + 1 :: 2], strict=True)
        fast = {
            name: FastWeights(*_as_stored(name, list(pair)))
            for name, pair in zip(self.names, pairs, strict=True)
        }
        return PlasticState(hidden(*flat[:first]), fast)


def _as_stored(name: str, tensors: list[Tensor]) -> list[Tensor]:
    """Transpose the matrices of the readout, whose few units make bad rows; its own inverse.

    Matrices and biases come by turns.
    """
    if name != "readout":
        return tensors
    return [tensor if index % 2 else tensor.mT for index, tensor in enumerate(tensors)]


class _Run(torch.autograd.Function):
    """The sequence as one function of its tensors; matrices of the readout come transposed."""

    @staticmethod
    def forward(
        ctx: Any, setting: _Setting, episode_starts: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        results, made, sizes = _forward(setting, episode_starts, *tensors)
        ctx.set_materialize_grads(False)
        ctx.setting, ctx.sizes, ctx.made_names = setting, sizes, list(made)
        kept = (*tensors, *made.values())
        ctx.kept_as = [(leaf.shape, leaf.dtype) for leaf in kept]
        ctx.save_for_backward(*kept)
        ctx.mark_non_differentiable(*results[1:4])
        return results[0].clone(), *results[1:]  # so that the user may write into the output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        kept: tuple[Tensor, ...] = ctx.saved_tensors  # read once: checkpoints give them once only
        if any(
            leaf.shape != shape or leaf.dtype != dtype
            for leaf, (shape, dtype) in zip(kept, ctx.kept_as, strict=True)
        ):
            raise RuntimeError("a hook returned a saved tensor with another shape or dtype")
        count = len(kept) - len(ctx.made_names)
        tensors, made = kept[:count], dict(zip(ctx.made_names, kept[count:], strict=True))
        given = [grad for grad in grads if grad is not None]
        followed = torch.is_grad_enabled() or plain.follower() is not None
        if followed or not (plain.are_plain([*kept, *given]) and plain.are_stored(given)):
            return None, None, *_backward_by_autograd(ctx, tensors, made.get("starts"), grads)
        return None, None, *_backward(ctx, tensors, made, grads)


def _backward_by_autograd(
    ctx: Any,
    tensors: tuple[Tensor, ...],
    starts: Tensor | None,
    grads: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """Return the gradients of all tensors by the closed form, with a graph if one is wanted."""
    setting: _Setting = ctx.setting
    create_graph, needed = torch.is_grad_enabled(), ctx.needs_input_grad[_FIRST:]
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # Not the tensors themselves: one may have been computed from another.
        leaves = [leaf.view_as(leaf) for leaf in tensors]
        x, omega, *flat = leaves
        parts = _Parts.of(setting, tuple(flat))
        kinds = zip(parts.weight, parts.bias, parts.alpha, parts.bias_alpha, strict=True)
        layers = {
            name: LayerParameters(*_as_stored(name, list(kind)))
            for name, kind in zip(setting.names, kinds, strict=True)
        }
        hidden = LSTMHidden if setting.cell.gates > 1 else RNNHidden
        state = setting.unflattened((*parts.hidden, *parts.flat_fast), hidden)
        output, final, _ = closed.run(
            NetworkParameters(layers, omega),
            setting.rule,
            setting.cell,
            x,
            state,
            None if starts is None else starts.view(torch.bool),
            probe=False,
        )
        results = [output, *setting.flattened(final)]
        used = [
            (result, grad)
            for result, grad in zip(results, (grads[0], *grads[4:]), strict=True)
            if grad is not None and result.requires_grad
        ]
        wanted = [leaf for leaf, need in zip(leaves, needed, strict=True) if need]
        found = iter(
            torch.autograd.grad(
                [result for result, _ in used],
                wanted,
                [grad for _, grad in used],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return [next(found) if need else None for need in needed]


def _backward(
    ctx: Any,
    tensors: tuple[Tensor, ...],
    made: dict[str, Tensor],
    grads: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of all tensors by the kernel."""
    setting: _Setting = ctx.setting
    x, omega, *flat = (leaf.contiguous() for leaf in tensors)
    saved = _inputs(setting, x, omega) | {name: leaf.contiguous() for name, leaf in made.items()}
    parts = _Parts.of(setting, tuple(flat))
    is_lstm, is_gradient = setting.cell.gates > 1, isinstance(setting.rule, Gradient)
    hidden_count = len(parts.hidden)

    if grads[0] is None:
        grad_o = torch.zeros_like(saved["output"])
    else:  # the kernel adds to it
        grad_o = grads[0].clone(memory_format=torch.contiguous_format)
    outgoing = {
        "grad_o": grad_o,
        "grad_q": torch.empty_like(saved["activity"]),
        "grad_x": torch.empty_like(saved["x"]),
    }
    if setting.has_encoder:
        outgoing["grad_a"] = torch.empty_like(saved["h"])
    if is_gradient:
        outgoing["grad_gh"] = torch.empty_like(saved["h"])
        if setting.has_encoder:
            outgoing["grad_u"] = torch.empty_like(saved["h"])
    grad_hidden = [torch.empty_like(leaf) for leaf in parts.hidden]
    needed = ctx.needs_input_grad[_FIRST + 2 + hidden_count :]
    grad_fast = [
        torch.empty_like(leaf) if need else None
        for leaf, need in zip(parts.flat_fast, needed, strict=False)
    ]
    finals = [None if grad is None else grad.contiguous() for grad in grads[4:]]

    problem = _problem(setting, ctx.sizes, parts, saved)
    problem.point(**outgoing)
    problem.point(grad_h0=grad_hidden[0], grad_h1=finals[0])
    if is_lstm:
        problem.point(grad_c0=grad_hidden[1], grad_c1=finals[1])
    problem.point(grad_fast0=grad_fast[::2], grad_fast_bias0=grad_fast[1::2])
    problem.point(grad_fast1=finals[hidden_count::2], grad_fast_bias1=finals[hidden_count + 1 :: 2])
    sums = problem.run(
        "backward",
        grad_alpha=parts.alpha,
        grad_bias_alpha=parts.bias_alpha,
        grad_omega=saved["omega"],
    )

    slow = _slow_gradients(parts, saved, outgoing)
    grad_parameters = [
        tensor
        for index, name in enumerate(setting.names)
        for tensor in (
            *slow[name],
            sums["grad_alpha"][index],
            sums["grad_bias_alpha"][index],
        )
    ]
    return (
        outgoing["grad_x"],
        sums["grad_omega"],
        *grad_hidden,
        *grad_fast,
        *grad_parameters,
    )


def _forward(
    setting: _Setting,
    episode_starts: Tensor | None,
    x: Tensor,
    omega: Tensor,
    *flat: Tensor,
) -> tuple[tuple[Tensor, ...], dict[str, Tensor], dict[str, int]]:
    """Run the forward pass.

    Returns:
        Readout units, the rates η, λ and n², the final state flattened; what else the backward
        pass needs; and the numbers of csrc/kernel.h.
    """
    x, omega = x.contiguous(), omega.contiguous()
    parts = _Parts.of(setting, tuple(leaf.contiguous() for leaf in flat))
    batch, steps, inputs = x.shape
    hidden_size, readout = parts.hidden[0].shape[1], len(omega)
    gates = setting.cell.gates

    def empty(*shape: int) -> Tensor:
        return x.new_empty(batch, *shape)

    is_gradient, is_lstm = isinstance(setting.rule, Gradient), gates > 1
    made = {
        "activity": empty(steps, gates * hidden_size),
        "h": empty(steps, hidden_size),
        "output": empty(steps, readout),
        "eta": empty(steps),
        "decay": empty(steps),
        "norm2": empty(steps),
    }
    if setting.has_encoder:
        made["encoded"] = empty(steps, hidden_size)
    if is_lstm:
        made["c"] = empty(steps, hidden_size)
    if is_gradient:
        made["post_q"] = empty(steps, gates * hidden_size)
        if setting.has_encoder:
            made["post_e"] = empty(steps, hidden_size)
    if episode_starts is not None:
        made["starts"] = episode_starts.contiguous().view(torch.uint8)
    fast1, fast_bias1 = ([torch.empty_like(f) for f in group] for group in parts.fast)
    sizes = {
        "batch": batch,
        "time": steps,
        "input": inputs,
        "hidden": hidden_size,
        "gates": gates,
        "readout": readout,
        "has_encoder": int(setting.has_encoder),
        "gradient_rule": int(is_gradient),
        "modulation": int(setting.rule.modulation),
        "segment": math.ceil(math.sqrt(steps)),
    }
    problem = _problem(setting, sizes, parts, _inputs(setting, x, omega) | made)
    problem.point(fast1=fast1, fast_bias1=fast_bias1)
    problem.run("forward")

    finals = [made["h"][:, -1].clone()] + ([made["c"][:, -1].clone()] if is_lstm else [])
    pairs = [leaf for pair in zip(fast1, fast_bias1, strict=True) for leaf in pair]
    rates = made["eta"], made["decay"], made["norm2"]
    return (made["output"], *rates, *finals, *pairs), made, sizes


class _Parts(NamedTuple):
    """The tensors of a run by what they are; lists go by layer."""

    hidden: tuple[Tensor, ...]
    fast: tuple[list[Tensor], list[Tensor]]
    flat_fast: tuple[Tensor, ...]
    weight: list[Tensor]
    bias: list[Tensor]
    alpha: list[Tensor]
    bias_alpha: list[Tensor]

    @staticmethod
    def of(setting: _Setting, flat: tuple[Tensor, ...]) -> "_Parts":
        count, layers = 2 if setting.cell.gates > 1 else 1, len(setting.names)
        fast = flat[count : count + 2 * layers]
        slow = [list(flat[count + 2 * layers + kind :: 4]) for kind in range(4)]
        return _Parts(flat[:count], (list(fast[::2]), list(fast[1::2])), fast, *slow)


def _inputs(setting: _Setting, x: Tensor, omega: Tensor) -> dict[str, Tensor]:
    return {"x": x, "omega": omega} | ({} if setting.has_encoder else {"encoded": x})


def _problem(
    setting: _Setting, sizes: dict[str, int], parts: _Parts, saved: dict[str, Tensor]
) -> Problem:
    rule = setting.rule
    rates = {
        "base_eta": rule.base_eta,
        "base_decay": rule.base_decay,
        "max_norm": rule.max_norm,
    }
    problem = Problem(saved["x"].dtype, _NAMES.index(setting.names[0]), sizes | rates)
    problem.point(**saved)
    problem.point(h0=parts.hidden[0], weight=parts.weight, bias=parts.bias)
    problem.point(alpha=parts.alpha, bias_alpha=parts.bias_alpha)
    problem.point(fast0=parts.fast[0], fast_bias0=parts.fast[1])
    if len(parts.hidden) > 1:
        problem.point(c0=parts.hidden[1])
    return problem


def _slow_gradients(
    parts: _Parts, saved: dict[str, Tensor], outgoing: dict[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the gradients of W (readout: transposed) and b, as sums over samples and steps."""
    h, grad_q, grad_o = saved["h"], outgoing["grad_q"], outgoing["grad_o"]
    h_before = torch.cat([parts.hidden[0].unsqueeze(1), h[:, :-1]], dim=1)
    if "starts" in saved:
        h_before = h_before.masked_fill(saved["starts"].view(torch.bool).unsqueeze(2), 0)

    def product(left: Tensor, right: Tensor) -> Tensor:
        return left.flatten(0, 1).T @ right.flatten(0, 1)

    cell_input, readout = product(saved["encoded"], grad_q), product(grad_o, h)
    if "grad_gh" in outgoing:
        omega = saved["omega"]
        post_o = (2 / len(omega)) * omega * omega * saved["output"]
        readout += product(post_o, outgoing["grad_gh"])
    if "grad_u" in outgoing:
        cell_input += product(outgoing["grad_u"], saved["post_q"])
    bias_q = grad_q.sum((0, 1))
    gradients = {
        "cell_input": (cell_input, bias_q),
        "cell_hidden": (product(h_before, grad_q), bias_q.clone()),
        "readout": (readout, grad_o.sum((0, 1))),
    }
    if "grad_a" in outgoing:
        grad_a = outgoing["grad_a"]
        gradients["encoder"] = (product(saved["x"], grad_a), grad_a.sum((0, 1)))
    return gradients
