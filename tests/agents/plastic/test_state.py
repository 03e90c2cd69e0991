"""States as trees of tensors, and saving and copying of networks."""

import copy
import io
import pickle

import pytest
import torch

from agents import FastWeights, LSTMHidden, PlasticState, RNNHidden


@pytest.fixture
def state(make_net, random_state, cell, rule_class):
    return random_state(make_net(cell, rule_class()), 3)


def same(one, other):
    one, other = one.to_dict(), other.to_dict()
    return list(one) == list(other) and all(torch.equal(one[k], other[k]) for k in one)


def saved_and_loaded(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_state_survives_saving(state):
    loaded = PlasticState.from_dict(saved_and_loaded(state.to_dict()))
    assert same(loaded, state)
    assert type(loaded.hidden) is type(state.hidden)
    assert list(loaded.fast) == list(state.fast)


def test_state_survives_pickling_and_copying(state):
    assert same(pickle.loads(pickle.dumps(state)), state)
    assert same(copy.deepcopy(state), state)


def test_flat_names_say_what_a_tensor_is(make_net):
    flat = make_net("lstm").initial_state(2).to_dict()
    layers = ("encoder", "cell_input", "cell_hidden", "readout")
    fast = [f"fast.{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    assert list(flat) == ["hidden.h", "hidden.c", *fast]
    assert flat["fast.cell_input.weight"].shape == (2, 5, 20)
    assert flat["fast.encoder.bias"].shape == (2, 5)


@pytest.mark.parametrize(
    "flat",
    [
        {},
        {"weight": torch.zeros(2, 3)},
        {"hidden.c": torch.zeros(2, 3)},
        {"hidden.h": torch.zeros(2, 3), "fast.readout.weight": torch.zeros(2, 3, 1)},
        {"hidden.h": torch.zeros(2, 3), "fast.readout.bias": torch.zeros(2, 1)},
        {"hidden.h": torch.zeros(2, 3), "fast.": torch.zeros(2, 1)},
        {"hidden.h": torch.zeros(2, 3), "hidden.a.b": torch.zeros(2, 3)},
        {"hidden.h": torch.zeros(2, 3), "hidden._z": torch.zeros(2, 3)},
        {"hidden.h": torch.zeros(2, 3), "hidden.class": torch.zeros(2, 3)},
        {"hidden.h": [[0.0]]},
        {"hidden.h": torch.zeros(2, 3), "weight": torch.zeros(2, 3)},
    ],
)
def test_foreign_names_are_refused(flat):
    with pytest.raises(ValueError, match="not a flattened state"):
        PlasticState.from_dict(flat)


def test_map_takes_every_tensor_once(state):
    seen = []
    doubled = state.map(lambda leaf: (seen.append(leaf), leaf * 2)[1])
    assert len(seen) == len(state.to_dict())
    assert all(torch.equal(v, 2 * state.to_dict()[k]) for k, v in doubled.to_dict().items())
    assert type(doubled.hidden) is type(state.hidden)


def test_to_changes_the_type_of_every_tensor(state):
    single = state.to(dtype=torch.float32)
    assert {leaf.dtype for leaf in single.to_dict().values()} == {torch.float32}
    assert same(state.to("cpu"), state)
    assert {leaf.device.type for leaf in state.to("meta").to_dict().values()} == {"meta"}


def test_reset_zeroes_the_samples_that_start(state):
    reset = state.reset(torch.tensor([True, False, True]))
    for name, leaf in reset.to_dict().items():
        assert not leaf[[0, 2]].any()
        assert torch.equal(leaf[1], state.to_dict()[name][1])
        assert state.to_dict()[name].all()


def test_reset_removes_what_is_not_finite():
    bad = torch.tensor([[float("nan")], [float("inf")]])
    state = PlasticState(RNNHidden(bad), {"readout": FastWeights(bad[:, None], bad)})
    reset = state.reset(torch.tensor([True, True])).to_dict()
    assert not any(leaf.any() for leaf in reset.values())


def test_initial_state_is_zero_and_like_the_parameters(make_net, cell, rule_class):
    net = make_net(cell, rule_class())
    state = net.initial_state(4)
    assert state.batch_size == 4
    own = [name for name in state.to_dict() if name.endswith(".P")]  # which begins with the prior
    assert not any(leaf.any() for name, leaf in state.to_dict().items() if name not in own)
    assert {leaf.dtype for leaf in state.to_dict().values()} == {torch.float64}
    assert {leaf.dtype for leaf in net.float().initial_state(4).to_dict().values()} == {
        torch.float32
    }
    assert isinstance(state.hidden, LSTMHidden if cell == "lstm" else RNNHidden)
    assert bool(state.fast) == rule_class.plastic
    for name, fast in state.fast.items():
        assert fast.weight.shape == (4, *net.layers[name].weight.shape)
        assert fast.bias.shape == (4, *net.layers[name].bias.shape)


def test_network_survives_saving_of_its_parameters(net, make_net, x):
    other = make_net(net.cell, net.rule, seed=9, form=net.form)
    assert not torch.equal(net(x)[0], other(x)[0])
    other.load_state_dict(saved_and_loaded(net.state_dict()))
    assert torch.equal(net(x)[0], other(x)[0])


def test_network_survives_copying_and_pickling(net, x):
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert (twin.form, twin.rule, type(twin.cell)) == (net.form, net.rule, type(net.cell))
        assert torch.equal(twin(x)[0], net(x)[0])
        twin.layers["readout"].bias.data.add_(1)
        assert not torch.equal(twin(x)[0], net(x)[0])
