"""What holds for every form, rule and cell, without knowing what they compute."""

import math

import pytest
import torch

from agents import Backpropamine
from agents.plastic.rules import inner_loss


def starts_of(x):
    """Return episode starts: none in sample 0, one in sample 1, two in sample 2."""
    starts = torch.zeros(x.shape[:2], dtype=torch.bool)
    starts[1, 3] = starts[2, 0] = starts[2, 6] = True
    return starts


def input_gradient(net, x, state=None, starts=None, *, since=0):
    """Return the gradient for x of a loss over the steps from `since` on."""
    x = x.clone().requires_grad_()
    output = net(x, state, starts)[0]
    return torch.autograd.grad(output[:, since:].sin().sum(), x)[0]


def parameter_gradients(net, output):
    parameters = [p for p in net.parameters() if p.requires_grad]
    grads = torch.autograd.grad(output.sin().sum(), parameters, materialize_grads=True)
    return torch.cat([grad.flatten() for grad in grads])


# Nothing that happens inside an episode depends on the batch it sits in.


def test_episode_alone_equals_itself_in_a_batch(net, x, random_state, assert_close):
    state, starts = random_state(net, 3), starts_of(x)
    output, final, probes = net.probe(x, state, starts)
    grad = input_gradient(net, x, state, starts)
    for i in range(3):
        one = slice(i, i + 1)
        alone = state.map(lambda leaf: leaf[one])  # noqa: B023
        output_i, final_i, probes_i = net.probe(x[one], alone, starts[one])
        assert_close(output_i, output[one])
        assert_close(final_i, final.map(lambda leaf: leaf[one]))  # noqa: B023
        assert_close(torch.stack(probes_i), torch.stack([value[one] for value in probes]))
        assert_close(input_gradient(net, x[one], alone, starts[one]), grad[one])


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e300])
def test_broken_episode_does_not_touch_the_others(net, x, poison, assert_close):
    broken = x.clone()
    broken[1, 2] = poison
    others = torch.tensor([0, 2])
    output, final = net(broken)
    expected, expected_final = net(x)
    assert_close(output[others], expected[others])
    assert_close(final.map(lambda leaf: leaf[others]), expected_final.map(lambda v: v[others]))
    assert_close(input_gradient(net, broken)[others], input_gradient(net, x)[others])
    assert torch.isfinite(expected).all()


# A sequence can be cut anywhere.


def test_split_sequence_equals_whole(net, x, random_state, assert_close):
    state, starts = random_state(net, 3), starts_of(x)
    whole, final = net(x, state, starts)
    parts, carried = [], state
    for part in (slice(0, 1), slice(1, 5), slice(5, 8)):
        output, carried = net(x[:, part], carried, starts[:, part])
        parts.append(output)
    parts = torch.cat(parts, dim=1)
    assert_close(parts, whole)
    assert_close(carried, final)
    assert_close(parameter_gradients(net, parts), parameter_gradients(net, whole), 1e-11)


def test_single_steps_equal_forward(net, x, random_state, assert_close):
    state, starts = random_state(net, 3), starts_of(x)
    whole, final = net(x, state, starts)
    for t in range(x.shape[1]):
        output, state = net.step(x[:, t], state, starts[:, t])
        assert_close(output, whole[:, t])
    assert_close(state, final)


def test_no_state_is_the_initial_state(net, x, assert_close):
    assert_close(net(x)[0], net(x, net.initial_state(3))[0])
    assert_close(net(x)[1], net(x, net.initial_state(3))[1])
    assert_close(net.step(x[:, 0])[0], net(x)[0][:, 0])


def test_output_does_not_depend_on_later_inputs(net, x, assert_close):
    changed = x.clone()
    changed[:, 5:] += 1
    output = net(changed)[0]
    assert_close(output[:, :5], net(x)[0][:, :5])
    assert not torch.allclose(output[:, 5:], net(x)[0][:, 5:])


def test_fast_weights_change_what_follows(plastic_net, x, make_net):
    still = make_net(plastic_net.cell, type(plastic_net.rule)(base_eta=0.0))
    difference = (plastic_net(x)[0] - still(x)[0]).abs().amax(dim=(0, 2))
    own = plastic_net.initial_state(1).rule.get("readout", {})
    before = 1 + ("trace" in own)  # which is empty at the first write
    assert (difference[:before] < 1e-12).all()  # outputs before the first write
    assert (difference[before:] > 1e-6).all()


# A reset forgets everything.


@pytest.mark.parametrize("poison", [0.0, math.nan, math.inf, -math.inf])
def test_reset_in_the_middle_equals_a_fresh_start(net, x, poison, random_state, assert_close):
    before, after = x[:, :4] + poison, x[:, 4:]
    joined = torch.cat([before, after], dim=1)
    starts = torch.zeros(3, 8, dtype=torch.bool)
    starts[:, 4] = True
    output, final = net(joined, random_state(net, 3), starts)
    fresh, fresh_final = net(after)
    assert_close(output[:, 4:], fresh)
    assert_close(final, fresh_final)
    grad = input_gradient(net, joined, random_state(net, 3), starts, since=4)
    assert_close(grad[:, 4:], input_gradient(net, after))
    assert torch.isfinite(fresh).all()


def test_no_gradient_passes_a_reset(net, x, random_state, assert_close):
    starts = torch.zeros(3, 8, dtype=torch.bool)
    starts[:, 4] = True
    assert not input_gradient(net, x, None, starts, since=4)[:, :4].any()
    grads = parameter_gradients(net, net(x, random_state(net, 3), starts)[0][:, 4:])
    assert_close(grads, parameter_gradients(net, net(x[:, 4:])[0]), 1e-11)


@pytest.mark.parametrize("poison", [0.0, math.nan, math.inf])
def test_reset_at_the_first_step_forgets_the_state_given(net, x, poison, assert_close):
    starts = torch.zeros(3, 8, dtype=torch.bool)
    starts[:, 0] = True
    state = net.initial_state(3).map(lambda leaf: leaf + 1 + poison)
    output, final = net(x, state, starts)
    assert_close(output, net(x)[0])
    assert_close(final, net(x)[1])
    grads = parameter_gradients(net, output)
    assert_close(grads, parameter_gradients(net, net(x)[0]), 1e-11)


def test_episode_starts_that_never_come_change_nothing(net, x, assert_close):
    never = torch.zeros(3, 8, dtype=torch.bool)
    assert_close(net(x, None, never)[0], net(x)[0])
    assert_close(net(x, None, never)[1], net(x)[1])


# Nothing breaks where the write vanishes.


@pytest.mark.parametrize("max_norm", [1e-3, 1e3])
@pytest.mark.parametrize("zero", ["parameters", "slow parameters", "inputs"])
def test_finite_where_the_write_vanishes(zero, max_norm, form, cell, rule_class, make_net, x):
    net = make_net(cell, rule_class(max_norm=max_norm), form=form)
    for name, parameter in net.named_parameters():
        if zero == "parameters" or (zero == "slow parameters" and "alpha" not in name):
            parameter.data.zero_()
    if zero == "inputs":
        x = torch.zeros_like(x)
    x.requires_grad_()
    output, final, probes = net.probe(x)
    values = [output, *final.to_dict().values()]
    sum((value + 1).square().sum() for value in values).backward()
    if zero != "inputs" and rule_class.__name__ != "Hebbian":  # gates of an LSTM are not zero
        assert not probes.write_norm.any()
    grads = [p.grad for p in [x, *net.parameters()] if p.grad is not None]
    assert len(grads) > 5
    assert all(torch.isfinite(value).all() for value in [*values, *probes, *grads])


def test_write_norm_is_zero_where_all_is_zero(form, make_net, x):
    net = make_net("rnn", "hebbian", form=form)
    for parameter in net.parameters():
        parameter.data.zero_()
    assert not net.probe(x)[2].write_norm.any()


# Gradients are cut and kept where they should be.


def test_detached_state_cuts_the_graph(net, x):
    first = x[:, :4].clone().requires_grad_()
    _, state = net(first)
    assert state.hidden.h.requires_grad
    cut = state.detach()
    assert not any(leaf.requires_grad for leaf in cut.to_dict().values())
    output, _ = net(x[:, 4:], cut)
    assert torch.autograd.grad(output.sum(), first, allow_unused=True) == (None,)
    output, _ = net(x[:, 4:], state)
    assert torch.autograd.grad(output.sum(), first)[0].any()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_results_are_the_same(net, x, mode, random_state, assert_close):
    state, starts = random_state(net, 3), starts_of(x)
    expected, expected_final, expected_probes = net.probe(x, state, starts)
    with mode():
        output, final, probes = net.probe(x + 0, state.map(torch.clone), starts.clone())
        again, _ = net.step(x[:, 0] + 0, final, starts[:, 0].clone())
        expected_again, _ = net.step(x[:, 0], expected_final, starts[:, 0])
        assert not any(
            leaf.requires_grad for leaf in [output, again, *probes, *final.to_dict().values()]
        )
        assert_close(output, expected)
        assert_close(final, expected_final)
        assert_close(torch.stack(probes), torch.stack(expected_probes))
        assert_close(again, expected_again)


def test_training_can_carry_on_from_a_state_made_without_gradients(net, x, assert_close):
    with torch.no_grad():
        _, state = net(x[:, :4])
    output, _ = net(x[:, 4:], state)
    assert_close(output, net(x)[0][:, 4:])
    assert torch.isfinite(parameter_gradients(net, output)).all()
    assert not any(leaf.requires_grad for leaf in state.to_dict().values())


def test_frozen_parameters_change_nothing(net, x, assert_close):
    expected, expected_gradient = net(x)[0], input_gradient(net, x)
    net.requires_grad_(False)
    assert_close(net(x)[0], expected)
    assert_close(input_gradient(net, x), expected_gradient)


# Probes.


def test_probe_returns_what_forward_does(net, x, random_state, assert_close):
    state, starts = random_state(net, 3), starts_of(x)
    output, final = net(x, state, starts)
    probed, probed_final, _ = net.probe(x, state, starts)
    assert_close(probed, output)
    assert_close(probed_final, final)


def test_probes_equal_what_the_readout_says(net, x, assert_close):
    units, probes, rule = net.readout_units(x), net.probe(x)[2], net.rule
    assert units.shape == (3, 8, 2 + 4 + 1)
    assert_close(units[..., :2], net(x)[0])
    modulation = decay = (2 / (1 + torch.exp(-units[..., -1]))).detach()
    if isinstance(rule, Backpropamine):
        modulation, decay = units[..., -1].detach().tanh(), torch.ones(3, 8).double()
    scale = (rule.max_norm / probes.write_norm).clamp(max=1)
    assert_close(probes.eta_before_clip, rule.base_eta * modulation)
    assert_close(probes.decay, rule.base_decay * decay)
    assert_close(probes.eta, probes.eta_before_clip * scale)
    assert_close(probes.inner_loss, inner_loss(units, net.output_weight).detach())
    assert all(value.shape == (3, 8) and not value.requires_grad for value in probes)


def test_write_norm_is_the_norm_of_what_is_written(
    form, cell, plastic_rule_class, make_net, random_state, x, assert_close
):
    rule = plastic_rule_class(alpha="off", max_norm=0.7)
    net = make_net(cell, rule, form=form)
    state = random_state(net, 3)
    before = state.to_dict()
    _, final, probes = net.probe(x[:, :1], state)
    after = final.to_dict()
    keep, eta = 1 - probes.decay[:, 0], probes.eta[:, 0].abs()
    shape = {2: (3, 1), 3: (3, 1, 1)}
    writes = [
        (after[k] - keep.view(shape[v.dim()]) * v).flatten(1)
        for k, v in before.items()
        if k.startswith("fast.")
    ]
    assert_close(torch.cat(writes, dim=1).norm(dim=1) / eta, probes.write_norm[:, 0], 1e-10)


# Nothing is kept on the module.


def test_sequences_can_be_interleaved(net, x, assert_close):
    first, second = x, x.flip(0) * 2
    expected = net(first)[0], net(second)[0]
    state_1, state_2 = None, None
    for t in range(x.shape[1]):
        output_1, state_1 = net.step(first[:, t], state_1)
        output_2, state_2 = net.step(second[:, t], state_2)
        assert_close(output_1, expected[0][:, t])
        assert_close(output_2, expected[1][:, t])


def test_running_leaves_network_and_state_as_they_were(net, x, random_state):
    state = random_state(net, 3)
    parameters = {k: v.clone() for k, v in net.state_dict().items()}
    leaves = {k: v.clone() for k, v in state.to_dict().items()}
    attributes = set(vars(net)), [set(vars(layer)) for layer in net.layers.values()]
    net.probe(x, state, starts_of(x))
    net(x, state)[0].sum().backward()
    assert attributes == (set(vars(net)), [set(vars(layer)) for layer in net.layers.values()])
    assert all(torch.equal(v, parameters[k]) for k, v in net.state_dict().items())
    assert all(torch.equal(v, leaves[k]) for k, v in state.to_dict().items())


def test_running_twice_gives_the_same(net, x):
    assert torch.equal(net(x)[0], net(x)[0])


def test_an_input_that_is_not_contiguous_gives_the_same(net, x, assert_close):
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert not strided.is_contiguous()
    assert_close(net(strided)[0], net(x)[0])


def test_long_episodes_split_and_reset_alike(net, assert_close):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 70, 3, generator=generator, dtype=torch.float64)
    starts = torch.rand(2, 70, generator=generator) < 0.04
    assert starts.any(dim=1).all()
    with torch.no_grad():
        whole, final = net(x, None, starts)
        first, state = net(x[:, :33], None, starts[:, :33])
        second, state = net(x[:, 33:], state, starts[:, 33:])
    assert_close(torch.cat([first, second], dim=1), whole, 1e-10)
    assert_close(state, final, 1e-10)
