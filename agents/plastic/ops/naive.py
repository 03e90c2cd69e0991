"""The equations read literally: fast weights as matrices, inner gradients by autograd.

Slow and memory-hungry, on purpose: this is the truth that other forms are tested against. It
shares with them the forward pass of the cells and the rates of a rule, and nothing of the write:
a rule's `literal` forms directions as whole matrices, and the norm is taken over the matrices.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.plastic.cells import Cell
from agents.plastic.ops.cpu import plain
from agents.plastic.ops.interface import (
    LayerParameters,
    NetworkParameters,
    Probes,
    check_writes,
    episode_start,
    own_after,
)
from agents.plastic.rules import LayerStep, Rule, StepRecord, Write, inner_loss, is_exactly
from agents.plastic.state import FastWeights, PlasticState
from agents.tree import map_tree

_CANNOT = ("torch.compile", "torch.jit", "a transform")  # follow no gradient inside what they see


def obstacle(
    rule: Rule,
    cell: Cell,  # noqa: ARG001
    tensors: Sequence[Tensor],  # noqa: ARG001
    *,
    taught: bool = False,  # noqa: ARG001
) -> str | None:
    """Name what keeps this form from computing a problem, here and now; None if it can."""
    kind = type(rule)
    if "literal" not in vars(kind) or not is_exactly(rule, kind):
        return f"no literal form of {kind.__name__} is written"
    follower = plain.follower()
    if follower is not None and follower.startswith(_CANNOT):
        return f"{follower} cannot follow its gradients"
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
    """Run the network as `agents.plastic.ops.interface.Form` says."""
    wants_grad = torch.is_grad_enabled()
    with torch.inference_mode(mode=False), torch.enable_grad():  # the inner gradient needs a graph
        if not wants_grad:
            x, state = x.clone(), state.map(torch.Tensor.clone)
            episode_starts = None if episode_starts is None else episode_starts.clone()
        initial = episode_start(rule, cell, state)
        outputs, probes = [], []
        for t in range(x.shape[1]):
            if episode_starts is not None:
                state = state.reset(episode_starts[:, t], initial)
            output, state, step_probes = _step(parameters, rule, cell, x[:, t], state)
            outputs.append(output)
            probes.append([value.detach() for value in step_probes])
    output = torch.stack(outputs, dim=1)
    if not wants_grad:
        output, state = output.detach(), state.detach()
    if not probe:
        return output, state, None
    return output, state, Probes(*(torch.stack(values, 1) for values in zip(*probes, strict=True)))


def _step(
    parameters: NetworkParameters, rule: Rule, cell: Cell, x: Tensor, state: PlasticState
) -> tuple[Tensor, PlasticState, Probes]:
    state = state._replace(fast=map_tree(_with_grad, state.fast))
    weights = {
        name: _whole(rule, layer, state.fast.get(name)) for name, layer in parameters.layers.items()
    }

    def linear(name: str, p: Tensor) -> Tensor:
        weight, bias = weights[name]
        return torch.einsum("bi,bio->bo", p, weight.expand(len(p), -1, -1)) + bias

    def backward(name: str, grad_q: Tensor) -> Tensor:
        return torch.einsum("bo,bio->bi", grad_q, weights[name][0])

    size = weights["encoder" if "encoder" in weights else "cell_input"][0].shape[-2]
    x, values = x[:, :size], x[:, size:]
    seen, encoded = {}, x
    if "encoder" in weights:
        q = linear("encoder", x)
        encoded = torch.relu(q)
        seen["encoder"] = (x, q, encoded)
    from_input, from_hidden = linear("cell_input", encoded), linear("cell_hidden", state.hidden.h)
    step = cell.forward(from_input, from_hidden, state.hidden)
    output = linear("readout", step.hidden.h)
    units = output
    if parameters.teaching is not None:
        units = units + torch.einsum("bv,vo->bo", values, parameters.teaching)
    seen["cell_input"] = (encoded, from_input, step.input_activity)
    seen["cell_hidden"] = (state.hidden.h, from_hidden, step.hidden_activity)
    seen["readout"] = (step.hidden.h, units, units)
    layers = {
        name: LayerStep(*seen[name], parameters.layers[name].weight, fast, state.rule.get(name, {}))
        for name, fast in state.fast.items()
    }
    omega = parameters.output_weight
    record = StepRecord(layers, cell, step, units, omega, backward)
    literal: dict[str, Write] = rule.literal(record)  # type: ignore[attr-defined]  # see `obstacle`
    check_writes(rule, literal, state)
    directions = {name: _direction(rule, write, layers[name]) for name, write in literal.items()}

    eta_before_clip, decay = rule.rates(units)
    norm = _joint_norm(directions, like=eta_before_clip)
    scale = rule.max_norm / norm.clamp(min=rule.max_norm)
    eta = eta_before_clip * scale
    written = {}
    for name, fast in state.fast.items():
        layer, write = parameters.layers[name], literal.get(name, Write())
        alpha_w, alpha_b = _alphas(layer)
        if rule.reads_alpha:
            alpha_w, alpha_b = torch.ones_like(alpha_w), torch.ones_like(alpha_b)
        rate = _per_unit(eta, fast)
        if write.eta is not None:
            rate = _per_unit(write.eta, fast) * scale[:, None]
        keep = 1 - _per_unit(decay if write.decay is None else write.decay, fast)
        weight, bias = keep[:, None, :] * fast.weight, keep * fast.bias
        if name in directions:
            weight = weight + rate[:, None, :] * alpha_w * directions[name].weight
            bias = bias + rate * alpha_b * directions[name].bias
        if rule.weight_clip is not None:
            weight = weight.clamp(-rule.weight_clip, rule.weight_clip)
            bias = bias.clamp(-rule.weight_clip, rule.weight_clip)
        written[name] = FastWeights(weight, bias)
    probes = Probes(eta, eta_before_clip, decay, norm, inner_loss(units, omega))
    return output, PlasticState(step.hidden, written, own_after(state, literal)), probes


def _per_unit(rate: Tensor, fast: FastWeights) -> Tensor:
    """Return a rate [B] or [B, out] as [B, out]."""
    return (rate[:, None] if rate.dim() == 1 else rate).expand_as(fast.bias)


def _whole(rule: Rule, layer: LayerParameters, fast: FastWeights | None) -> tuple[Tensor, Tensor]:
    """Return W + w̃ and b + b̃, or with α ⊙ w̃ and α ⊙ b̃."""
    if fast is None:
        return layer.weight, layer.bias
    if rule.reads_alpha:
        alpha_w, alpha_b = _alphas(layer)
        return layer.weight + alpha_w * fast.weight, layer.bias + alpha_b * fast.bias
    return layer.weight + fast.weight, layer.bias + fast.bias


def _alphas(layer: LayerParameters) -> tuple[Tensor, Tensor]:
    weight, bias, alpha_w, alpha_b = layer
    return (
        torch.ones_like(weight) if alpha_w is None else alpha_w,
        torch.ones_like(bias) if alpha_b is None else alpha_b,
    )


def _with_grad(leaf: Tensor) -> Tensor:
    """Return a tensor that the inner gradient can be taken for."""
    return leaf if leaf.requires_grad else leaf.detach().requires_grad_()


def _direction(rule: Rule, write: Write, layer: LayerStep) -> FastWeights:
    """Return δ of a layer in full."""
    weight, bias = map_tree(torch.zeros_like, layer.fast)
    if write.direction is not None:
        weight, bias = write.direction
    elif write.post is not None:
        pre = layer.pre if write.pre is None else write.pre
        weight, bias = torch.einsum("bi,bo->bio", pre, write.post), write.post
    return FastWeights(weight, bias if rule.writes_bias else torch.zeros_like(bias))


def _joint_norm(directions: dict[str, FastWeights], like: Tensor) -> Tensor:
    """Return the norm [B] over all directions of each sample; its gradient at zero is zero."""
    if not directions:
        return torch.zeros_like(like)
    flat = torch.cat([part.flatten(1) for pair in directions.values() for part in pair], dim=1)
    squared = flat.square().sum(dim=1)
    is_zero = squared == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).sqrt())
