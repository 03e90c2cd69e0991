"""The closed form: fast weights as matrices, write directions by hand as rank-one products.

Every direction is an outer product, δ_W = p ⊗ post, so ‖δ_W‖ = ‖p‖ ‖post‖, and the post factors of
both rules are written out in `agents.plastic.rules`: no autograd inside the step, no second-order
graph. Handles everything that a rule can be set to, on any device.
"""

import torch
from torch import Tensor

from agents.plastic.cells import Cell
from agents.plastic.ops.interface import NetworkParameters, Probes
from agents.plastic.rules import Rule, StepRecord, clip_scale, inner_loss
from agents.plastic.state import FastWeights, PlasticState
from plastic_envs.checks import shown


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
        ValueError: If a rule writes into a layer that is not there.
    """
    if not rule.plastic:
        return _run_ordinary(parameters, rule, cell, x, state, episode_starts, probe=probe)
    initial = cell.initial_hidden(torch.zeros_like(state.hidden.h))
    outputs, probes = [], []
    for t, x_t in enumerate(x.unbind(1)):
        if episode_starts is not None:
            state = state.reset(episode_starts[:, t], initial)
        output, state, step_probes = _step(parameters, rule, cell, x_t, state, probe=probe)
        outputs.append(output)
        probes.append(step_probes)
    output = torch.stack(outputs, dim=1)
    if not probe:
        return output, state, None
    return output, state, Probes(*(torch.stack(values, 1) for values in zip(*probes, strict=True)))


def _run_ordinary(
    parameters: NetworkParameters,
    rule: Rule,
    cell: Cell,
    x: Tensor,
    state: PlasticState,
    episode_starts: Tensor | None,
    *,
    probe: bool,
) -> tuple[Tensor, PlasticState, Probes | None]:
    """Run a network that writes nothing: all but the recurrence is one product over all steps."""
    layers = parameters.layers

    def linear(name: str, p: Tensor) -> Tensor:
        return p @ layers[name].weight + layers[name].bias

    encoded = torch.relu(linear("encoder", x)) if "encoder" in layers else x
    from_input = linear("cell_input", encoded) + layers["cell_hidden"].bias
    initial = cell.initial_hidden(torch.zeros_like(state.hidden.h))
    hs = []
    for t, q in enumerate(from_input.unbind(1)):
        if episode_starts is not None:
            state = state.reset(episode_starts[:, t], initial)
        q = torch.addmm(q, state.hidden.h, layers["cell_hidden"].weight)
        state = state._replace(hidden=cell.forward(q, state.hidden).hidden)
        hs.append(state.hidden.h)
    output = linear("readout", torch.stack(hs, dim=1))
    if not probe:
        return output, state, None
    eta, decay = rule.rates(output)
    loss = inner_loss(output, parameters.output_weight)
    values = (eta, eta, decay, torch.zeros_like(eta), loss)
    return output, state, Probes(*(value.detach() for value in values))


def _step(
    parameters: NetworkParameters,
    rule: Rule,
    cell: Cell,
    x: Tensor,
    state: PlasticState,
    *,
    probe: bool,
) -> tuple[Tensor, PlasticState, tuple[Tensor, ...]]:
    """Take one step.

    Args:
        parameters: Slow parameters.
        rule: Plasticity rule.
        cell: Recurrent cell.
        x: Input [B, in].
        state: State before the step.
        probe: Whether to return probes.

    Returns:
        All readout units o_t [B, readout], the state after the write, and the fields of `Probes`
        of this step, each [B], or none.
    """
    layers, fast = parameters.layers, state.fast

    def forward(name: str, p: Tensor) -> Tensor:
        q = torch.addmm(layers[name].bias, p, layers[name].weight)
        return q + fast[name].bias + torch.bmm(p.unsqueeze(1), fast[name].weight).squeeze(1)

    def backward(name: str, grad_q: Tensor) -> Tensor:
        through_fast = torch.bmm(fast[name].weight, grad_q.unsqueeze(2)).squeeze(2)
        return grad_q @ layers[name].weight.T + through_fast

    has_encoder = "encoder" in layers
    encoded = torch.relu(forward("encoder", x)) if has_encoder else x
    q = forward("cell_input", encoded) + forward("cell_hidden", state.hidden.h)
    cell_step = cell.forward(q, state.hidden)
    output = forward("readout", cell_step.hidden.h)

    record = StepRecord(
        cell=cell,
        cell_step=cell_step,
        encoded=encoded if has_encoder else None,
        output=output,
        output_weight=parameters.output_weight,
        backward=backward,
    )
    posts = rule.posts(record)
    if not posts.keys() <= fast.keys():
        raise ValueError(
            f"{type(rule).__name__}.posts must name layers among {', '.join(fast)}, "
            f"got {shown(list(posts))}"
        )
    pres = {"encoder": x, "cell_input": encoded, "cell_hidden": state.hidden.h}
    pres["readout"] = cell_step.hidden.h
    squared_norm = _squared_norm(pres, posts, rule)
    eta_before_clip, decay = rule.rates(output)
    eta = eta_before_clip * clip_scale(squared_norm, rule.max_norm)
    written = _write(parameters, rule, pres, posts, fast, eta, 1 - decay)

    probes: tuple[Tensor, ...] = ()
    if probe:
        loss = inner_loss(output, parameters.output_weight)
        values = (eta, eta_before_clip, decay, squared_norm.sqrt(), loss)
        probes = tuple(value.detach() for value in values)
    return output, PlasticState(cell_step.hidden, written), probes


def _squared_norm(pres: dict[str, Tensor], posts: dict[str, Tensor], rule: Rule) -> Tensor:
    """Return n² [B] over all plastic tensors of each sample."""
    total = torch.zeros_like(pres["readout"][:, 0])
    for name, post in posts.items():
        squared_pre = pres[name].square().sum(dim=1)
        if rule.writes_bias:
            squared_pre = squared_pre + 1  # the bias is a weight whose input is 1
        total = total + squared_pre * post.square().sum(dim=1)
    return total


def _write(
    parameters: NetworkParameters,
    rule: Rule,
    pres: dict[str, Tensor],
    posts: dict[str, Tensor],
    fast: dict[str, FastWeights],
    eta: Tensor,
    keep: Tensor,
) -> dict[str, FastWeights]:
    """Return keep · w̃ + η α ⊙ δ for every layer."""
    written = {}
    for name in fast:
        weight = keep[:, None, None] * fast[name].weight
        bias = keep[:, None] * fast[name].bias
        if name in posts:
            layer, post = parameters.layers[name], eta[:, None] * posts[name]
            delta = pres[name].unsqueeze(2) * post.unsqueeze(1)
            if layer.weight_alpha is None:
                weight = weight + delta
            else:
                weight = torch.addcmul(weight, layer.weight_alpha, delta)
            if rule.writes_bias:
                bias = bias + (post if layer.bias_alpha is None else layer.bias_alpha * post)
        if rule.weight_clip is not None:
            weight = weight.clamp(-rule.weight_clip, rule.weight_clip)
            bias = bias.clamp(-rule.weight_clip, rule.weight_clip)
        written[name] = FastWeights(weight, bias)
    return written
