"""Cells, rules and encoders of a user's own are treated as those of the package are."""

import io
import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from agents import (
    Cell,
    CellStep,
    Conv4,
    Gradient,
    Hebbian,
    ImageLabelEncoder,
    LSTMCell,
    LSTMHidden,
    NonPlastic,
    PlasticNetwork,
    PlasticState,
    PrototypicalNetwork,
    RNNCell,
    RNNHidden,
    Write,
)
from agents.plastic.linear import PlasticLinear
from agents.plastic.rules import is_exactly


@pytest.fixture
def x():
    return torch.randn(3, 8, 3, generator=torch.Generator().manual_seed(1)).double()


def network(cell="rnn", rule="gradient", **kwargs):
    generator = torch.Generator().manual_seed(0)
    return PlasticNetwork(3, 2, 5, cell, rule, generator=generator, **kwargs).double()


# What derives from a rule or cell of ours, or changes one, is not computed as ours.


@dataclass(frozen=True, kw_only=True)
class OwnWrites(Gradient):
    def writes(self, step):
        return {name: Write(-write.post) for name, write in super().writes(step).items()}


@dataclass(frozen=True, kw_only=True)
class OwnRates(Gradient):
    def rates(self, output):
        eta, decay = super().rates(output)
        return 2 * eta, decay


@dataclass(frozen=True, kw_only=True)
class OwnHebbian(Hebbian):
    writes_bias: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class OwnNonPlastic(NonPlastic):
    plastic: ClassVar[bool] = True

    def writes(self, step):
        return {"readout": Write(step.output)}


class OwnRNN(RNNCell):
    def forward(self, from_input, from_hidden, hidden):
        h = torch.tanh(from_input + from_hidden)
        return CellStep(RNNHidden(h), h, h, hidden)

    def backward(self, grad_h, step):
        grad = grad_h * (1 - step.hidden.h.square())
        return grad, grad


class OwnLSTM(LSTMCell):
    def forward(self, from_input, from_hidden, hidden):
        return super().forward(from_input + 1, from_hidden, hidden)


@pytest.mark.parametrize("rule", [OwnWrites, OwnRates, OwnHebbian, OwnNonPlastic])
def test_a_subclass_of_a_rule_is_computed_as_it_says(rule, x):
    net = network(rule=rule())
    assert net.supported_forms() == ["closed"]
    assert not torch.allclose(net(x)[0], network(rule=rule.__mro__[1]())(x)[0])
    for form, message in (("compiled", f"the rule is a {rule.__name__}"), ("naive", "literal")):
        net.form = form
        with pytest.raises(ValueError, match=message):
            net(x)


@pytest.mark.parametrize("cell", [OwnRNN, OwnLSTM])
def test_a_subclass_of_a_cell_is_computed_as_it_says(cell, x):
    net, ours = network(cell()), network(cell.__mro__[1]())
    assert net.supported_forms() == ["closed", "naive"]
    assert not torch.allclose(net(x)[0], ours(x)[0])
    y, _ = net(x)
    net.form = "naive"
    torch.testing.assert_close(y, net(x)[0], rtol=1e-9, atol=1e-12)
    net.form = "compiled"
    with pytest.raises(ValueError, match=f"the cell is a {cell.__name__}"):
        net(x)


def test_a_method_changed_on_an_object_is_seen(x):
    cell = RNNCell()
    assert is_exactly(cell, RNNCell)
    cell.forward = OwnRNN().forward
    assert not is_exactly(cell, RNNCell)
    torch.testing.assert_close(
        network(cell, "hebbian")(x)[0], network(OwnRNN(), "hebbian")(x)[0], rtol=1e-9, atol=1e-12
    )
    assert not is_exactly(OwnRates(), Gradient)
    assert is_exactly(Gradient(base_eta=0.5), Gradient, Hebbian)


def test_a_layer_put_in_the_place_of_another_is_used(x):
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    net, twin = network(), network()
    mine = PlasticLinear(5, 7, 7, net.rule).double()
    mine.load_state_dict(net.layers["readout"].state_dict())
    nn.utils.parametrize.register_parametrization(mine, "weight", Doubled())
    net.layers["readout"] = mine
    twin.layers["readout"].weight.data.mul_(2)
    torch.testing.assert_close(net(x)[0], twin(x)[0], rtol=1e-9, atol=1e-12)
    net(x)[0].sum().backward()
    assert mine.parametrizations.weight.original.grad.any()


def test_a_rule_that_writes_into_no_layer_is_refused(x):
    class Lost(Hebbian):
        def writes(self, step):
            return {"memory": Write(step.output)}

    with pytest.raises(ValueError, match=r"Lost\.writes must name layers among encoder, .*memory"):
        network(rule=Lost())(x)


@pytest.mark.parametrize("change", ["removed", "linear", "shape"])
def test_a_layer_that_does_not_fit_is_refused(change, x):
    net = network()
    if change == "removed":
        del net.layers["encoder"]
    elif change == "linear":
        net.layers["encoder"] = nn.Linear(3, 5).double()
    else:
        net.layers["encoder"] = PlasticLinear(5, 3, 3, net.rule).double()
    with pytest.raises(ValueError, match=r"layers must be|layers\['encoder'\]|network holds"):
        net(x)


def test_a_layer_without_alpha_may_stand_in_the_place_of_one_with(form, x):
    net, twin = network(form=form), network(form=form)
    fixed = PlasticLinear(5, 7, 7, Gradient(alpha="off")).double()
    fixed.load_state_dict(net.layers["readout"].state_dict(), strict=False)
    net.layers["readout"] = fixed
    for alpha in (twin.layers["readout"].weight_alpha, twin.layers["readout"].bias_alpha):
        alpha.data.fill_(1)
    torch.testing.assert_close(net(x)[0], twin(x)[0], rtol=1e-12, atol=1e-12)


def test_slow_weights_can_be_frozen_from_the_start():
    learned = {
        n for n, p in network(freeze_slow_weights=True).named_parameters() if p.requires_grad
    }
    names = dict(network().named_parameters())
    assert learned == {name for name in names if not name.endswith((".weight", ".bias"))}


# A hidden state of a cell's own.


class CountingHidden(NamedTuple):
    h: Tensor
    trace: Tensor
    steps: Tensor


class CountingCell(Cell):
    """A leaky cell that starts at 1, traces two past values and counts its steps."""

    gates = 1

    def initial_hidden(self, zeros):
        steps = torch.zeros(len(zeros), dtype=torch.long, device=zeros.device)
        return CountingHidden(zeros + 1, zeros.new_zeros(*zeros.shape, 2), steps)

    def forward(self, from_input, from_hidden, hidden):
        activity = torch.tanh(from_input + from_hidden)
        h = (hidden.h + activity + hidden.trace.sum(-1) / 4) / 2
        trace = torch.stack([hidden.h, hidden.trace[..., 0]], dim=-1)
        return CellStep(CountingHidden(h, trace, hidden.steps + 1), activity, activity, hidden)

    def backward(self, grad_h, step):
        grad = grad_h / 2 * (1 - step.input_activity.square())
        return grad, grad


@pytest.fixture(params=["closed", "naive"])
def counting(request):
    return network(CountingCell(), form=request.param)


def test_own_hidden_state_is_carried_saved_and_loaded(counting, x):
    whole, final = counting(x)
    _, state = counting(x[:, :4])
    assert state.hidden.steps.tolist() == [4, 4, 4]
    buffer = io.BytesIO()
    torch.save(state.to_dict(), buffer)
    buffer.seek(0)
    loaded = PlasticState.from_dict(torch.load(buffer, weights_only=True))
    y, after = counting(x[:, 4:], loaded)
    torch.testing.assert_close(y, whole[:, 4:], rtol=1e-12, atol=1e-12)
    assert type(after.hidden) is CountingHidden
    torch.testing.assert_close(after.to_dict(), final.to_dict(), rtol=1e-12, atol=1e-12)
    again = PlasticState.from_dict(loaded.to_dict())
    assert type(again.hidden)._fields == CountingHidden._fields


@pytest.mark.parametrize("rule", ["gradient", "none"])
def test_a_reset_starts_an_own_cell_as_an_episode_does(rule, x):
    net = network(CountingCell(), rule)
    starts = torch.zeros(3, 8, dtype=torch.bool)
    starts[1, 4] = True
    y, final = net(x, None, starts)
    fresh, fresh_final = net(x[1:2, 4:])
    torch.testing.assert_close(y[1:2, 4:], fresh, rtol=1e-12, atol=1e-12)
    assert final.hidden.steps.tolist() == [8, 4, 8]
    torch.testing.assert_close(final.hidden.h[1:2], fresh_final.hidden.h, rtol=1e-12, atol=1e-12)


def test_own_numbers_keep_their_type(counting, x):
    state = counting(x)[1].to(dtype=torch.float32)
    assert state.hidden.steps.dtype == torch.long
    assert {state.hidden.h.dtype, state.fast["readout"].weight.dtype} == {torch.float32}


@pytest.mark.parametrize("field", ["trace", "steps"])
def test_own_hidden_state_of_another_shape_or_type_is_refused(counting, x, field):
    state = counting.initial_state(3)
    bad = getattr(state.hidden, field).double()[..., :1]
    with pytest.raises(ValueError, match="the state holds"):
        counting(x, state._replace(hidden=state.hidden._replace(**{field: bad})))


class Peephole(NamedTuple):
    h: Tensor
    c: Tensor
    last: Tensor


class PeepholeCell(LSTMCell):
    """An LSTM that keeps more than one."""

    def initial_hidden(self, zeros):
        return Peephole(zeros, zeros.clone(), zeros.clone())

    def forward(self, from_input, from_hidden, hidden):
        step = super().forward(from_input + hidden.last.repeat(1, 4), from_hidden, hidden)
        return step._replace(hidden=Peephole(*step.hidden, step.hidden.h))


def test_a_cell_that_derives_from_ours_may_keep_more(x):
    net = network(PeepholeCell())
    y, final = net(x)
    assert type(final.hidden) is Peephole
    net.form = "naive"
    torch.testing.assert_close(y, net(x)[0], rtol=1e-9, atol=1e-12)


class Renamed(NamedTuple):
    h: Tensor
    c: Tensor


class RenamedCell(LSTMCell):
    def initial_hidden(self, zeros):
        return Renamed(zeros, zeros.clone())


def test_a_hidden_state_is_taken_for_that_of_the_cell_by_its_fields(x):
    net = network(RenamedCell())
    state = PlasticState.from_dict(net.initial_state(3).to_dict())
    assert type(state.hidden) is LSTMHidden
    assert net(x, state)[0].shape == (3, 8, 2)


def test_h_and_c_of_a_new_episode_are_two_tensors():
    hidden = network("lstm").initial_state(2).hidden
    hidden.h.add_(1)
    assert not hidden.c.any()


@pytest.mark.parametrize(
    "start", [lambda zeros: (zeros,), lambda zeros: zeros, lambda zeros: RNNHidden(zeros[:, :2])]
)
def test_a_cell_that_starts_with_something_else_is_refused(start):
    class Bad(RNNCell):
        def initial_hidden(self, zeros):
            return start(zeros)

    with pytest.raises(ValueError, match="cell must start with a named tuple"):
        PlasticNetwork(3, 2, 5, Bad())


@pytest.mark.parametrize("gates", [0, 1.5, None])
def test_a_cell_without_gates_is_refused(gates):
    with pytest.raises(ValueError, match=r"cell\.gates must be an integer of at least 1"):
        PlasticNetwork(3, 2, 5, type("Bad", (RNNCell,), {"gates": gates})())


# Image encoders of one's own.


class Means(nn.Module):
    """The mean of each channel: nothing to learn."""

    image_shape = (4, 4, 2)
    embedding_size = 2

    def forward(self, images):
        return images.mean(dim=(2, 3))


def test_an_image_encoder_without_parameters_is_taken():
    images = torch.randint(0, 256, (2, 3, 4, 4, 2), dtype=torch.uint8)
    label = torch.zeros(2, 3, 5)
    logits, _ = PrototypicalNetwork(Means(), 5)({"image": images, "label": label})
    assert logits.shape == (2, 3, 5)
    encoder = ImageLabelEncoder(Means(), 8, 5)
    assert encoder({"image": images, "label": label}).shape == (2, 3, 8)
    expected = images[0].numpy().mean((1, 2)) / 255
    torch.testing.assert_close(encoder.embed(images[0].numpy()), torch.from_numpy(expected).float())


# The weights of the inner loss.


@pytest.mark.parametrize("rule", ["hebbian", "none"])
def test_output_weights_that_no_rule_trains_are_a_buffer(rule):
    net = network(rule=rule)
    assert "output_weight" in dict(net.named_buffers())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert next(iter(net.state_dict())) == "output_weight"


@pytest.mark.parametrize("rule", ["gradient", "hebbian", "none"])
def test_parameters_saved_when_they_were_one_are_loaded(rule, x):
    net, other = network(rule=rule), network(rule=rule)
    saved = net.state_dict()
    saved["output_weight"] = nn.Parameter(
        torch.full_like(net.output_weight, math.pi), requires_grad=False
    )
    other.load_state_dict(saved)
    assert (other.output_weight == math.pi).all()
    assert other.double().output_weight.dtype == torch.float64


def test_trust_region_policy_optimisation_takes_a_hebbian_network():
    contrib = pytest.importorskip("sb3_contrib")
    gym = pytest.importorskip("gymnasium")
    from agents.sb3 import PlasticFeaturesExtractor
    from plastic_envs.wrappers import History

    env = History(gym.make("CartPole-v1", max_episode_steps=5), max_steps=6)
    kwargs = {
        "features_extractor_class": PlasticFeaturesExtractor,
        "features_extractor_kwargs": {"features_dim": 3, "hidden_size": 4, "rule": "hebbian"},
        "net_arch": [4],
    }
    agent = contrib.TRPO(
        "MultiInputPolicy", env, n_steps=8, batch_size=8, policy_kwargs=kwargs, cg_max_steps=2
    )
    before = [p.detach().clone() for p in agent.policy.features_extractor.parameters()]
    agent.learn(8)
    after = agent.policy.features_extractor.parameters()
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_sizes_of_numpy_are_taken():
    import numpy as np

    net = PlasticNetwork(np.prod((3, 1)), np.int8(2), np.uint64(5), extra_dim=np.int32(1))
    assert type(net.input_size) is type(net.hidden_size) is int
    assert net.initial_state(np.int64(4)).batch_size == 4
    shape = tuple(np.array([16, 16, 1]))
    encoder = Conv4(shape, np.int64(4))
    assert encoder.image_shape == (16, 16, 1)
    assert ImageLabelEncoder(encoder, np.int64(8), np.int64(5)).num_labels == 5
    assert Gradient(base_eta=np.float32(0.5), modulation=np.bool_(True)) == Gradient(base_eta=0.5)
