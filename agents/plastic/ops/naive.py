"""The equations read literally: fast weights as matrices, inner gradients by autograd.

Slow and memory-hungry, on purpose: this is the truth that other forms are tested against. It
shares with them the forward pass of the cells and the rates of a rule, and nothing of the write:
directions are formed as whole matrices, the gradient rule differentiates the inner loss with a
second-order graph, and the norm is taken over the matrices.
"""

import torch
from torch import Tensor

from agents.plastic.cells import Cell
from agents.plastic.ops.interface import LayerParameters, NetworkParameters, Probes
from agents.plastic.rules import Gradient, Hebbian, NonPlastic, Rule, inner_loss, is_exactly
from agents.plastic.state import FastWeights, PlasticState


def supports(rule: Rule) -> bool:
    """Say whether a literal form of a rule is written here; not one of its subclasses."""
    return is_exactly(rule, Gradient, Hebbian, NonPlastic)


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

    Raises:
        ValueError: If `supports` says no.
    """
    if not supports(rule):
        raise ValueError(f"no literal form of {type(rule).__name__} is written")
    wants_grad = torch.is_grad_enabled()
    with torch.inference_mode(mode=False), torch.enable_grad():  # the inner gradient needs a graph
        if not wants_grad:
            x, state = x.clone(), state.map(torch.Tensor.clone)
            episode_starts = None if episode_starts is None else episode_starts.clone()
        initial = cell.initial_hidden(torch.zeros_like(state.hidden.h))
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
    layers = parameters.layers
    fast = {
        name: FastWeights(_with_grad(layer.weight), _with_grad(layer.bias))
        for name, layer in state.fast.items()
    }
    inputs, activities = {}, {}

    def linear(name: str, p: Tensor) -> Tensor:
        inputs[name] = p
        return _linear(layers[name], fast.get(name), p)

    encoded = x
    if "encoder" in layers:
        encoded = activities["encoder"] = torch.relu(linear("encoder", x))
    q = linear("cell_input", encoded) + linear("cell_hidden", state.hidden.h)
    step = cell.forward(q, state.hidden)
    activities["cell_input"] = activities["cell_hidden"] = step.activity
    output = activities["readout"] = linear("readout", step.hidden.h)

    loss = inner_loss(output, parameters.output_weight)
    if isinstance(rule, Gradient):
        tensors = [tensor for layer in fast.values() for tensor in layer]
        grads = torch.autograd.grad(loss.sum(), tensors, create_graph=True)
        directions = dict(zip(fast, zip(grads[::2], grads[1::2], strict=True), strict=True))
    elif isinstance(rule, Hebbian):
        directions = {
            name: (
                torch.einsum("bi,bo->bio", inputs[name], activities[name]),
                torch.zeros_like(layer.bias),
            )
            for name, layer in fast.items()
        }
    else:
        directions = {}

    eta_before_clip, decay = rule.rates(output)
    norm = _joint_norm(directions, like=eta_before_clip)
    eta = eta_before_clip * (rule.max_norm / norm.clamp(min=rule.max_norm))
    written = {}
    for name, (delta_weight, delta_bias) in directions.items():
        alpha_w, alpha_b = layers[name].weight_alpha, layers[name].bias_alpha
        alpha_w = torch.ones_like(layers[name].weight) if alpha_w is None else alpha_w
        alpha_b = torch.ones_like(layers[name].bias) if alpha_b is None else alpha_b
        keep = 1 - decay
        weight = keep[:, None, None] * fast[name].weight
        weight = weight + eta[:, None, None] * alpha_w * delta_weight
        bias = keep[:, None] * fast[name].bias
        if rule.writes_bias:
            bias = bias + eta[:, None] * alpha_b * delta_bias
        if rule.weight_clip is not None:
            weight = weight.clamp(-rule.weight_clip, rule.weight_clip)
            bias = bias.clamp(-rule.weight_clip, rule.weight_clip)
        written[name] = FastWeights(weight, bias)
    probes = Probes(eta, eta_before_clip, decay, norm, loss)
    return output, PlasticState(step.hidden, written), probes


def _linear(layer: LayerParameters, fast: FastWeights | None, p: Tensor) -> Tensor:
    """Return q = p (W + w̃) + b + b̃."""
    if fast is None:
        return p @ layer.weight + layer.bias
    return torch.einsum("bi,bio->bo", p, layer.weight + fast.weight) + layer.bias + fast.bias


def _with_grad(leaf: Tensor) -> Tensor:
    """Return a tensor that the inner gradient can be taken for."""
    return leaf if leaf.requires_grad else leaf.detach().requires_grad_()


def _joint_norm(directions: dict[str, tuple[Tensor, Tensor]], like: Tensor) -> Tensor:
    """Return the norm [B] over all directions of each sample; its gradient at zero is zero."""
    if not directions:
        return torch.zeros_like(like)
    flat = torch.cat([part.flatten(1) for pair in directions.values() for part in pair], dim=1)
    squared = flat.square().sum(dim=1)
    is_zero = squared == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).sqrt())
