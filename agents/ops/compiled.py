"""The compiled form: forward and backward pass by hand, one sample at a time, in C.

The fast weights of a sample stay in the processor's cache while its whole sequence is computed. The
forward pass keeps the factors of the writes, [B, T, hidden], and no fast weights; the backward
pass makes them again, segment by segment. Time grows linearly with T, memory with T · hidden.
Derivation: docs/fast-engine.md. For CPU tensors of float32 or float64; see `supports`.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agents.cells import Cell, LSTMCell, RNNCell
from agents.ops import library
from agents.ops.interface import NetworkParameters, Probes
from agents.ops.library import Problem
from agents.rules import Gradient, Hebbian, Rule, inner_loss
from agents.state import FastWeights, PlasticState

_NAMES = ("encoder", "cell_input", "cell_hidden", "readout")


def supports(rule: Rule, cell: Cell, x: Tensor) -> bool:
    """Say whether this form can compute a problem, here and now."""
    return (
        type(rule) in (Gradient, Hebbian)
        and rule.weight_clip is None
        and type(cell) in (RNNCell, LSTMCell)
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and library.load() is not None
    )


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
    """Run the network as `agents.ops.interface.Form` says.

    Raises:
        ValueError: If `supports` says no.
    """
    if not supports(rule, cell, x):
        raise ValueError(
            "the compiled form needs a CPU tensor of float32 or float64, the rules and cells of "
            "this package, no weight_clip, and a build of its kernel"
        )
    setting = _Setting(rule, cell, "encoder" in parameters.layers, episode_starts)
    flat_parameters = []
    for name, layer in parameters.layers.items():
        alphas = [
            torch.ones_like(slow) if alpha is None else alpha
            for slow, alpha in ((layer.weight, layer.weight_alpha), (layer.bias, layer.bias_alpha))
        ]
        flat_parameters += _as_stored(name, [layer.weight, layer.bias, *alphas])
    flat_state: list[Tensor] = list(state.hidden)
    for name in parameters.layers:
        flat_state += _as_stored(name, list(state.fast[name]))
    tensors = [x, parameters.output_weight, *flat_state, *flat_parameters]
    if any(leaf.dtype != x.dtype or leaf.device != x.device for leaf in tensors):
        raise ValueError(f"parameters and state must all be {x.dtype} on {x.device}, as the input")
    results: tuple[Tensor, ...]
    if torch.is_grad_enabled():
        results = _Run.apply(setting, *tensors)  # type: ignore[no-untyped-call]
    else:
        results, _, _ = _forward(setting, *tensors)
    output, rates, flat_final = results[0], results[1:4], results[4:]

    hidden_count = len(state.hidden)
    hidden = type(state.hidden)(*flat_final[:hidden_count])
    pairs = zip(flat_final[hidden_count::2], flat_final[hidden_count + 1 :: 2], strict=True)
    fast = {
        name: FastWeights(*_as_stored(name, list(pair)))
        for name, pair in zip(parameters.layers, pairs, strict=True)
    }
    final = PlasticState(hidden, fast)
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
    episode_starts: Tensor | None

    @property
    def names(self) -> tuple[str, ...]:
        return _NAMES if self.has_encoder else _NAMES[1:]


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
    def forward(ctx: Any, setting: _Setting, *tensors: Tensor) -> tuple[Tensor, ...]:
        results, saved, sizes = _forward(setting, *(tensor.detach() for tensor in tensors))
        ctx.set_materialize_grads(False)
        ctx.setting, ctx.sizes, ctx.saved_names = setting, sizes, list(saved)
        ctx.save_for_backward(*saved.values(), *(leaf.contiguous() for leaf in tensors[2:]))
        ctx.mark_non_differentiable(*results[1:4])
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor | None, *grads: Tensor | None) -> Any:
        setting: _Setting = ctx.setting
        saved = dict(zip(ctx.saved_names, ctx.saved_tensors, strict=False))
        parts = _Parts.of(setting, ctx.saved_tensors[len(saved) :])
        is_lstm, is_gradient = setting.cell.gates > 1, isinstance(setting.rule, Gradient)
        hidden_count = len(parts.hidden)

        if grad_output is None:
            grad_o = torch.zeros_like(saved["output"])
        else:  # the kernel adds to it
            grad_o = grad_output.clone(memory_format=torch.contiguous_format)
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
        first_fast = 3 + hidden_count
        grad_fast = [
            torch.empty_like(leaf) if needed else None
            for leaf, needed in zip(
                parts.flat_fast, ctx.needs_input_grad[first_fast:], strict=False
            )
        ]
        finals = [None if grad is None else grad.contiguous() for grad in grads[3:]]

        problem = _problem(setting, ctx.sizes, parts, saved)
        problem.point(**outgoing)
        problem.point(grad_h0=grad_hidden[0], grad_h1=finals[0])
        if is_lstm:
            problem.point(grad_c0=grad_hidden[1], grad_c1=finals[1])
        problem.point(grad_fast0=grad_fast[::2], grad_fast_bias0=grad_fast[1::2])
        problem.point(
            grad_fast1=finals[hidden_count::2], grad_fast_bias1=finals[hidden_count + 1 :: 2]
        )
        sums = problem.run(
            "backward",
            grad_alpha=parts.alpha,
            grad_bias_alpha=parts.bias_alpha,
            grad_omega=saved["omega"],
        )

        slow = _slow_gradients(setting, parts, saved, outgoing)
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
            None,
            outgoing["grad_x"],
            sums["grad_omega"],
            *grad_hidden,
            *grad_fast,
            *grad_parameters,
        )


def _forward(
    setting: _Setting, x: Tensor, omega: Tensor, *flat: Tensor
) -> tuple[tuple[Tensor, ...], dict[str, Tensor], dict[str, int]]:
    """Run the forward pass.

    Returns:
        Readout units, the rates η, λ and n², the final state flattened; what the backward pass
        needs; and the numbers of csrc/kernel.h.
    """
    x, omega = x.contiguous(), omega.contiguous()
    parts = _Parts.of(setting, tuple(leaf.contiguous() for leaf in flat))
    batch, steps, inputs = x.shape
    hidden_size, readout = parts.hidden[0].shape[1], len(omega)
    gates = setting.cell.gates

    def empty(*shape: int) -> Tensor:
        return x.new_empty(batch, *shape)

    is_gradient, is_lstm = isinstance(setting.rule, Gradient), gates > 1
    saved = {
        "x": x,
        "encoded": empty(steps, hidden_size) if setting.has_encoder else x,
        "activity": empty(steps, gates * hidden_size),
        "h": empty(steps, hidden_size),
        "output": empty(steps, readout),
        "eta": empty(steps),
        "decay": empty(steps),
        "norm2": empty(steps),
        "omega": omega,
    }
    if is_lstm:
        saved["c"] = empty(steps, hidden_size)
    if is_gradient:
        saved["post_q"] = empty(steps, gates * hidden_size)
        if setting.has_encoder:
            saved["post_e"] = empty(steps, hidden_size)
    if setting.episode_starts is not None:
        saved["starts"] = setting.episode_starts.contiguous().view(torch.uint8)
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
    problem = _problem(setting, sizes, parts, saved)
    problem.point(fast1=fast1, fast_bias1=fast_bias1)
    problem.run("forward")

    finals = [saved["h"][:, -1].clone()] + ([saved["c"][:, -1].clone()] if is_lstm else [])
    pairs = [leaf for pair in zip(fast1, fast_bias1, strict=True) for leaf in pair]
    rates = saved["eta"], saved["decay"], saved["norm2"]
    return (saved["output"], *rates, *finals, *pairs), saved, sizes


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
    setting: _Setting, parts: _Parts, saved: dict[str, Tensor], outgoing: dict[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the gradients of W (readout: transposed) and b, as sums over samples and steps."""
    h, grad_q, grad_o = saved["h"], outgoing["grad_q"], outgoing["grad_o"]
    h_before = torch.cat([parts.hidden[0].unsqueeze(1), h[:, :-1]], dim=1)
    if setting.episode_starts is not None:
        h_before = h_before.masked_fill(setting.episode_starts.unsqueeze(2), 0)

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
