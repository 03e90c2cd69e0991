"""What was checked once is not trusted longer than it is the same."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from agents import PlasticNetwork
from agents.plastic.linear import PlasticLinear

X = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Twice(nn.Module):
    def forward(self, weight):
        return 2 * weight


def network(seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return PlasticNetwork(3, 2, 5, rule="hebbian", generator=generator, **options).double()


def outcome(net, x=X):
    """Two steps: output and state."""
    with torch.no_grad():
        _, state = net.step(x)
        y, state = net.step(x, state)
    return {"y": y, **state.to_dict()}


def agree(found, expected):
    return all(torch.equal(found[name], expected[name]) for name in expected)


def replaced(net):
    net.layers["readout"].weight = nn.Parameter(2 * net.layers["readout"].weight.detach())


def filled(net):
    with torch.no_grad():
        net.layers["readout"].weight.mul_(2)


def given_data(net):
    net.layers["readout"].weight.data = 2 * net.layers["readout"].weight.data


def loaded(net, *, assign=False):
    weights = copy.deepcopy(net.state_dict())
    weights["layers.readout.weight"] *= 2
    net.load_state_dict(weights, assign=assign)


def assigned(net):
    loaded(net, assign=True)


def parametrised(net):
    parametrize.register_parametrization(net.layers["readout"], "weight", Twice())


def parametrised_and_left(net):
    parametrised(net)
    outcome(net)
    parametrize.remove_parametrizations(net.layers["readout"], "weight")


def with_another_layer(net):
    layer = PlasticLinear(5, 7, 7, net.rule).double()
    layer.load_state_dict(net.layers["readout"].state_dict())
    filled_layer = {"readout": layer}
    net.layers.update(filled_layer)
    filled(net)


CHANGES = [
    *(replaced, filled, given_data, loaded, assigned),
    *(parametrised, parametrised_and_left, with_another_layer),
]


@pytest.fixture(scope="module")
def expected():
    """Of a network that has never been anything else."""
    net = network()
    filled(net)
    return outcome(net)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_parameters_are_seen_at_the_next_step(expected, change):
    net = network()
    before = outcome(net)
    assert not agree(before, expected)
    change(net)
    assert agree(outcome(net), expected)
    assert agree(outcome(net), expected)


def test_a_mask_is_seen_and_its_end(expected):
    net = network()
    filled(net)
    outcome(net)
    prune.identity(net.layers["readout"], "weight")
    net.layers["readout"].weight_mask[:] = 0
    masked = net.layers["readout"].weight_orig * net.layers["readout"].weight_mask
    net.layers["readout"].weight = masked.detach()
    other = network()
    with torch.no_grad():
        other.layers["readout"].weight.zero_()
    assert agree(outcome(net), outcome(other))


def test_a_functional_call_sees_its_own_parameters_and_leaves_no_trace(expected):
    net = network()
    before = outcome(net)
    weight = net.layers["readout"].weight
    own = {"layers.readout.weight": 2 * weight}  # of a graph: no leaf
    assert agree(_called(net, own), expected)
    assert agree(outcome(net), before)
    _called(net, own)
    assert agree(outcome(copy.deepcopy(net)), before)  # which copies leaves alone
    grad = torch.func.grad(
        lambda w: torch.func.functional_call(net, {"layers.readout.weight": w}, X[:, None])[0].sum()
    )(weight.detach())
    net(X[:, None])[0].sum().backward()
    assert torch.allclose(grad, weight.grad)
    assert agree(outcome(net), before)


def _called(net, parameters):
    def step(*arguments):
        return torch.func.functional_call(net, parameters, arguments)

    with torch.no_grad():
        _, state = step(X[:, None])
        y, state = step(X[:, None], state)
    return {"y": y[:, 0], **state.to_dict()}


def _pickled(net):
    return pickle.loads(pickle.dumps(net))


def _saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, _pickled, _saved])
def test_a_copy_has_parameters_of_its_own(expected, copied):
    net = network()
    before = outcome(net)
    other = copied(net)
    filled(other)
    assert agree(outcome(other), expected)
    assert agree(outcome(net), before)
    filled(net)
    assert agree(outcome(net), expected)


def test_a_cast_is_seen():
    net = network()
    outcome(net)
    _, state = net.step(X)
    net.float()
    with pytest.raises(ValueError, match=r"the network is torch.float32 on cpu"):
        net.step(X)
    with pytest.raises(ValueError, match=r"the state holds torch.float64"):
        net.step(X.float(), state)
    assert outcome(net, X.float())["y"].dtype == torch.float32
    single = network().float()
    assert agree(outcome(net, X.float()), outcome(single, X.float()))
    net.to("meta")
    assert outcome(net, X.float().to("meta"))["y"].is_meta


def test_what_does_not_fit_is_refused_after_what_did():
    net = network()
    _, state = net.step(X)
    net.step(X, state)
    fast = state.fast["readout"]
    odd = (fast.bias[:, :-1], fast.bias.float(), fast.bias.to("meta"), fast.bias.detach().numpy())
    layers = [*(fast._replace(bias=bias) for bias in odd), tuple(fast)]
    wrong = [
        *(state._replace(fast={**state.fast, "readout": layer}) for layer in layers),
        state._replace(fast={name: state.fast[name] for name in list(state.fast)[1:]}),
        state._replace(rule={"readout": {"trace": fast.bias}}),
        state._replace(hidden=tuple(state.hidden)),
        state.map(lambda leaf: leaf[:1]),
        tuple(state),
    ]
    for each in wrong:
        with pytest.raises(ValueError, match="state"):
            net.step(X, each)
    with pytest.raises(ValueError, match="x has 1 samples, but the state has 2"):
        net.step(X[:1], state)
    readout = net.layers["readout"]
    readout.weight.data = readout.weight.data[:, :-1]
    with pytest.raises(ValueError, match=r"the network holds .* where torch.float64 \[5, 7\]"):
        net.step(X, state)
    net.layers["other"] = net.layers.pop("readout")
    with pytest.raises(ValueError, match="layers must be"):
        net.step(X, state)


def test_another_order_of_layers_is_as_good():
    net = network()
    _, state = net.step(X)
    mixed = state._replace(fast=dict(reversed(state.fast.items())))
    expected, _ = net.step(X, state)
    for each in (mixed, state, mixed):
        assert torch.equal(net.step(X, each)[0], expected)


# The compiled form stays on the CPU.

REMEDY = r"form='compiled' computes on the CPU alone, and not on meta: choose form='auto'"


@pytest.mark.parametrize(
    "move", [lambda net: net.to("meta"), lambda net: net.to_empty(device="meta")]
)
def test_the_compiled_form_is_not_moved_where_it_cannot_compute(move):
    net = network(form="compiled")
    before = copy.deepcopy(net.state_dict())
    for module in (net, nn.Sequential(net)):
        with pytest.raises(ValueError, match=REMEDY):
            move(module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    net.form = "auto"
    move(net)
    with pytest.raises(ValueError, match=REMEDY):
        net.form = "compiled"
    assert net.form == "auto"


def test_the_compiled_form_is_not_made_where_it_cannot_compute():
    with torch.device("meta"), pytest.raises(ValueError, match=REMEDY):
        PlasticNetwork(3, 2, 5, form="compiled")
