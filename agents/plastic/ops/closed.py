"""The closed form: fast weights as matrices, write directions by hand.

Most directions are outer products, δ_W = pre ⊗ post, so ‖δ_W‖ = ‖pre‖ ‖post‖, and rules say what
the factors are: no autograd inside the step, no second-order graph. Handles everything that a rule
can be set to, on any device.

Where gradients are wanted, autograd keeps the matrices of every step. Where that would be 1 GiB or
more, sequences go in √T segments of √T steps: only the states between them are kept, and the
backward pass computes the segments again. Memory grows with √T, and the numbers stay the same to
the bit; time is 1.6 times as long (measured), so that smaller sequences are computed at once.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from agents.plastic.cells import Cell
from agents.plastic.ops.cpu import plain
from agents.plastic.ops.interface import (
    LayerParameters,
    NetworkParameters,
    Probes,
    check_writes,
    episode_start,
    own_after,
    stimulus_and_teaching,
)
from agents.plastic.rules import LayerStep, Rule, StepRecord, Write, clip_scale, inner_loss
from agents.plastic.state import FastWeights, PlasticState
from agents.tree import leaves

_LARGE = 2**29  # bytes of fast weights over all steps; autograd would keep twice as much


def obstacle(
    rule: Rule,  # noqa: ARG001
    cell: Cell,  # noqa: ARG001
    tensors: Sequence[Tensor],  # noqa: ARG001
    *,
    taught: bool = False,  # noqa: ARG001
) -> str | None:
    """Return None: this form computes everything."""
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

    Raises:
        ValueError: If a rule writes into a layer that is not there, or loses a tensor of its own.
    """
    if not rule.plastic:
        return _run_ordinary(parameters, rule, cell, x, state, episode_starts, probe=probe)
    initial = None if episode_starts is None else episode_start(rule, cell, state)

    def segment(
        state: PlasticState, x: Sequence[Tensor], starts: Sequence[Tensor | None]
    ) -> tuple[list[Tensor], list[tuple[Tensor, ...]], PlasticState]:
        outputs, probes = [], []
        for x_t, starts_t in zip(x, starts, strict=True):
            if starts_t is not None:
                state = state.reset(starts_t, initial)
            output, state, step_probes = _step(parameters, rule, cell, x_t, state, probe=probe)
            outputs.append(output)
            probes.append(step_probes)
        return outputs, probes, state

    xs, count = x.unbind(1), x.shape[1]
    starts = [None] * count if episode_starts is None else episode_starts.unbind(1)
    length = _segment_length(count, state)
    outputs: list[Tensor] = []
    probes: list[tuple[Tensor, ...]] = []
    for first in range(0, count, length):
        part = slice(first, first + length)
        if first + length < count:
            made = checkpoint(
                segment, state, xs[part], starts[part],
                use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
        else:  # the backward pass would begin by computing it again
            made = segment(state, xs[part], starts[part])
        outputs += made[0]
        probes += made[1]
        state = made[2]
    output = torch.stack(outputs, dim=1)
    if not probe:
        return output, state, None
    return output, state, Probes(*(torch.stack(values, 1) for values in zip(*probes, strict=True)))


def _segment_length(steps: int, state: PlasticState) -> int:
    """Return ⌈√T⌉ where it pays, else T.

    Autograd's checkpoints save nothing without gradients, and cannot be followed by transforms,
    compilers, or modes that see every operation.
    """
    history = steps * sum(leaf.nbytes for leaf in leaves((state.fast, state.rule)))
    if history < _LARGE or not torch.is_grad_enabled() or plain.follower() is not None:
        return steps
    return math.ceil(math.sqrt(steps))


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

    x, taught = stimulus_and_teaching(parameters, x)
    encoded = torch.relu(linear("encoder", x)) if "encoder" in layers else x
    initial = None if episode_starts is None else episode_start(rule, cell, state)
    hidden_layer = layers["cell_hidden"]
    hs = []
    for t, from_input in enumerate(linear("cell_input", encoded).unbind(1)):
        if episode_starts is not None:
            state = state.reset(episode_starts[:, t], initial)
        from_hidden = torch.addmm(hidden_layer.bias, state.hidden.h, hidden_layer.weight)
        step = cell.forward(from_input, from_hidden, state.hidden)
        state = state._replace(hidden=step.hidden)
        hs.append(state.hidden.h)
    output = linear("readout", torch.stack(hs, dim=1))
    if not probe:
        return output, state, None
    units = output if taught is None else output + taught
    eta, decay = rule.rates(units)
    loss = inner_loss(units, parameters.output_weight)
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
        All readout units [B, readout] without what is taught, the state after the write, and the
        fields of `Probes` of this step, each [B], or none.
    """
    layers, fast = parameters.layers, state.fast
    read = {name: _read(rule, layers[name], fast[name]) for name in fast}

    def forward(name: str, p: Tensor) -> Tensor:
        q = torch.addmm(layers[name].bias, p, layers[name].weight)
        if name not in read:
            return q
        return q + read[name].bias + torch.bmm(p.unsqueeze(1), read[name].weight).squeeze(1)

    def backward(name: str, grad_q: Tensor) -> Tensor:
        through_slow = grad_q @ layers[name].weight.T
        if name not in read:
            return through_slow
        return through_slow + torch.bmm(read[name].weight, grad_q.unsqueeze(2)).squeeze(2)

    x, taught = stimulus_and_teaching(parameters, x)
    encoded = x
    if "encoder" in layers:
        q_encoder = forward("encoder", x)
        encoded = torch.relu(q_encoder)
    from_input, from_hidden = forward("cell_input", encoded), forward("cell_hidden", state.hidden.h)
    cell_step = cell.forward(from_input, from_hidden, state.hidden)
    output = forward("readout", cell_step.hidden.h)
    units = output if taught is None else output + taught

    seen = {
        "cell_input": (encoded, from_input, cell_step.input_activity),
        "cell_hidden": (state.hidden.h, from_hidden, cell_step.hidden_activity),
        "readout": (cell_step.hidden.h, units, units),
    }
    if "encoder" in layers:
        seen["encoder"] = (x, q_encoder, encoded)
    record = StepRecord(
        layers={
            name: LayerStep(*seen[name], layers[name].weight, fast[name], state.rule.get(name, {}))
            for name in fast
        },
        cell=cell,
        cell_step=cell_step,
        output=units,
        output_weight=parameters.output_weight,
        backward=backward,
    )
    writes = rule.writes(record)
    check_writes(rule, writes, state)
    squared_norm = _squared_norm(rule, record, writes)
    eta_before_clip, decay = rule.rates(units)
    scale = clip_scale(squared_norm, rule.max_norm)
    eta, keep = eta_before_clip * scale, 1 - decay
    written = {}
    for name in fast:
        write = writes.get(name, _NOTHING)
        own_eta = eta if write.eta is None else _per_unit(write.eta) * scale[:, None]
        own_keep = keep if write.decay is None else 1 - write.decay
        written[name] = _written(rule, layers[name], record.layers[name], write, own_eta, own_keep)

    probes: tuple[Tensor, ...] = ()
    if probe:
        loss = inner_loss(units, parameters.output_weight)
        values = (eta, eta_before_clip, decay, squared_norm.sqrt(), loss)
        probes = tuple(value.detach() for value in values)
    return output, PlasticState(cell_step.hidden, written, own_after(state, writes)), probes


_NOTHING = Write()


def _read(rule: Rule, layer: LayerParameters, fast: FastWeights) -> FastWeights:
    """Return what fast weights add to the slow ones."""
    if not rule.reads_alpha:
        return fast
    weight, bias = fast
    return FastWeights(
        weight if layer.weight_alpha is None else layer.weight_alpha * weight,
        bias if layer.bias_alpha is None else layer.bias_alpha * bias,
    )


def _squared_norm(rule: Rule, record: StepRecord, writes: Mapping[str, Write]) -> Tensor:
    """Return n² [B] over all plastic tensors of each sample."""
    total = torch.zeros_like(record.output[:, 0])
    for name, write in writes.items():
        if write.direction is not None:
            squared = write.direction.weight.square().sum(dim=(1, 2))
            if rule.writes_bias:
                squared = squared + write.direction.bias.square().sum(dim=1)
            total = total + squared
        elif write.post is not None:
            pre = record.layers[name].pre if write.pre is None else write.pre
            squared_pre = pre.square().sum(dim=1)
            if rule.writes_bias:
                squared_pre = squared_pre + 1  # the bias is a weight whose input is 1
            total = total + squared_pre * write.post.square().sum(dim=1)
    return total


def _written(
    rule: Rule, layer: LayerParameters, step: LayerStep, write: Write, eta: Tensor, keep: Tensor
) -> FastWeights:
    """Return keep · w̃ + η α ⊙ δ of a layer."""
    eta, keep = _per_unit(eta), _per_unit(keep)
    weight = keep.unsqueeze(1) * step.fast.weight
    bias = keep * step.fast.bias
    delta = post = None
    if write.direction is not None:
        delta = eta.unsqueeze(1) * write.direction.weight
        post = eta * write.direction.bias if rule.writes_bias else None
    elif write.post is not None:
        post = eta * write.post
        delta = (step.pre if write.pre is None else write.pre).unsqueeze(2) * post.unsqueeze(1)
    if delta is not None:
        alpha = None if rule.reads_alpha else layer.weight_alpha
        weight = weight + delta if alpha is None else torch.addcmul(weight, alpha, delta)
    if rule.writes_bias and post is not None:
        alpha = None if rule.reads_alpha else layer.bias_alpha
        bias = bias + (post if alpha is None else alpha * post)
    if rule.weight_clip is not None:
        weight = weight.clamp(-rule.weight_clip, rule.weight_clip)
        bias = bias.clamp(-rule.weight_clip, rule.weight_clip)
    return FastWeights(weight, bias)


def _per_unit(rate: Tensor) -> Tensor:
    """Return a rate [B] or [B, out] as [B, 1 or out]."""
    return rate.unsqueeze(1) if rate.dim() == 1 else rate
