"""The form taken by default gives what the closed one gives, however torch differentiates or
looks on; asked for by name where it cannot, the compiled form says so."""

import copy
import math
import threading

import pytest
import torch
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from agents import PlasticNetwork
from agents.plastic.ops.cpu import library

needs_kernel = pytest.mark.skipif(library.load() is None, reason="the kernel was not built")
CASES = [("gradient", "rnn"), ("gradient", "lstm"), ("hebbian", "rnn"), ("hebbian", "lstm")]


def network(form="auto", rule="gradient", cell="rnn"):
    generator = torch.Generator().manual_seed(0)
    return PlasticNetwork(3, 2, 5, cell, rule, form=form, generator=generator).double()


@pytest.fixture
def x():
    return torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture
def net():
    return network()


@pytest.fixture
def closed():
    return network("closed")


def assert_same(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        zero = torch.zeros_like(one if other is None else other)
        pair = (zero if leaf is None else leaf for leaf in (one, other))
        torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-12)


def inputs_of(net, x):
    """Return what a run depends on: the input, parameters, and a state made from the input."""
    state = net.initial_state(2).map(lambda leaf: leaf + 0.1 + x.mean() / 10)
    return [x, *net.parameters()], state


# A gradient that has a graph.


@pytest.mark.parametrize(("rule", "cell"), CASES)
def test_second_derivatives_are_those_of_the_closed_form(rule, cell, x):
    starts = torch.zeros(2, 6, dtype=torch.bool)
    starts[0, 3] = True

    def derivatives(form):
        net, leaf = network(form, rule, cell), x.clone().requires_grad_()
        inputs, state = inputs_of(net, leaf)
        y, final = net(leaf, state, starts)
        loss = y.square().mean() + sum(v.pow(3).sum() for v in final.to_dict().values())
        first = torch.autograd.grad(loss, inputs, create_graph=True)
        penalty = sum(grad.square().sum() for grad in first)
        return [*first, *torch.autograd.grad(penalty, inputs)]

    assert_same(derivatives("auto"), derivatives("closed"))


def test_second_derivatives_of_a_loss_linear_in_the_outputs(x):
    def derivatives(form):
        net, leaf = network(form), x.clone().requires_grad_()
        inputs = [leaf, *net.parameters()]
        first = torch.autograd.grad(net(leaf)[0].sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(g.sum() for g in first), inputs, allow_unused=True)

    assert_same(derivatives("auto"), derivatives("closed"))


@needs_kernel
def test_compiled_form_asked_for_by_name_has_second_derivatives_too(x):
    net = network("compiled")
    parameters = list(net.parameters())

    def loss(*values):
        named = dict(zip(dict(net.named_parameters()), values, strict=True))
        return torch.func.functional_call(net, named, (x[:1, :3],))[0].square().sum()

    inputs = [p.detach().clone().requires_grad_() for p in parameters]
    assert torch.autograd.gradgradcheck(loss, inputs, fast_mode=True)


def test_an_inner_step_is_differentiated_through(x):
    def outer(form):
        net = network(form)
        named = dict(net.named_parameters())
        loss = net(x)[0].square().mean()
        grads = torch.autograd.grad(loss, list(named.values()), create_graph=True)
        pairs = zip(named.items(), grads, strict=True)
        stepped = {name: value - 0.5 * grad for (name, value), grad in pairs}
        after = torch.func.functional_call(net, stepped, (x,))[0].square().mean()
        return torch.autograd.grad(after, list(named.values()))

    assert_same(outer("auto"), outer("closed"))


def test_fisher_vector_product(x):
    def product(form):
        net = network(form)
        parameters = list(net.parameters())
        y = net(x)[0]
        divergence = (y - y.detach()).square().mean()
        grads = torch.autograd.grad(divergence, parameters, create_graph=True)
        dot = sum((grad * torch.ones_like(grad)).sum() for grad in grads)
        return torch.autograd.grad(dot, parameters)

    assert any(grad.any() for grad in product("auto"))
    assert_same(product("auto"), product("closed"))


@pytest.mark.parametrize("vectorize", [False, True])
def test_jacobian_and_hessian_of_torch_autograd(net, closed, x, vectorize):
    def both(net):
        return (
            torch.autograd.functional.jacobian(lambda x: net(x)[0], x, vectorize=vectorize),
            torch.autograd.functional.hessian(
                lambda x: net(x)[0].square().sum(), x[:1, :3], vectorize=vectorize
            ),
        )

    assert_same(both(net), both(closed))


# Transforms, modes, tracing: what follows the calls of torch.


def vmap(net, x):
    return [torch.func.vmap(lambda x: net(x)[0])(torch.stack([x, 2 * x]))]


def func_grad(net, x):
    def loss(parameters):
        return torch.func.functional_call(net, parameters, (x,))[0].square().mean()

    grads = torch.func.grad(loss)({k: v.detach() for k, v in net.named_parameters()})
    return list(grads.values())


def func_vjp(net, x):
    output, pull = torch.func.vjp(lambda x: net(x)[0], x)
    return [output, *pull(torch.ones_like(output))]


def func_jvp(net, x):
    return torch.func.jvp(lambda x: net(x)[0], (x,), (torch.ones_like(x),))


def func_hessian(net, x):
    return [torch.func.hessian(lambda x: net(x)[0].square().sum())(x[:1, :2])]


def forward_mode(net, x):
    with torch.no_grad(), forward_ad.dual_level():
        y, _ = net(forward_ad.make_dual(x, torch.ones_like(x)))
        return list(forward_ad.unpack_dual(y))


def compiled_by_torch(net, x):
    torch._dynamo.reset()
    run = torch.compile(net, backend="aot_eager", fullgraph=True)
    y = run(x)[0]
    return [y, *torch.autograd.grad(y.sum(), list(net.parameters()), allow_unused=True)]


def exported(net, x):
    return [torch.export.export(net, (x,)).module()(x)[0]]


@pytest.mark.filterwarnings("ignore")  # tracing warns of checks, and of its own end
def traced(net, x):
    class Outputs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x)[0]

    return [torch.jit.trace(Outputs(), x, check_trace=False)(2 * x)]


def function_mode(net, x):
    class Doubling(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            return 2 * result if func is torch.relu else result

    with Doubling():
        return [net(x)[0]]


def operations(net, x):
    with FlopCounterMode(display=False) as forward:
        y = net(x)[0].sum()
    with FlopCounterMode(display=False) as backward:
        y.backward()
    return [torch.tensor([float(c.get_total_flops())]) for c in (forward, backward)]


FOLLOWERS = [
    vmap,
    func_grad,
    func_vjp,
    func_jvp,
    func_hessian,
    forward_mode,
    pytest.param(compiled_by_torch, marks=pytest.mark.slow),
    pytest.param(exported, marks=pytest.mark.slow),
    traced,
    function_mode,
    operations,
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("follow", FOLLOWERS, ids=lambda f: f.__name__)
def test_what_follows_the_calls_of_torch_sees_the_same(net, closed, x, follow):
    if follow is operations:  # of a backward pass that is not counted at all
        actual, expected = follow(net, x), follow(closed, x)
        assert actual[0] == expected[0] > 0
        assert actual[1] >= expected[1] > 0
        return
    assert_same(follow(net, x), follow(closed, x))


@needs_kernel
@pytest.mark.parametrize("follow", [vmap, func_jvp, forward_mode, function_mode])
def test_the_compiled_form_by_name_refuses_what_it_cannot_serve(x, follow):
    with pytest.raises(ValueError, match=r"form='compiled' cannot be used: .* 'closed' can"):
        follow(network("compiled"), x)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("follow", [vmap, func_grad, func_vjp, func_jvp, traced])
def test_the_literal_form_by_name_refuses_what_it_cannot_serve(x, follow):
    with pytest.raises(ValueError, match=r"form='naive' cannot be used: .* 'closed' can"):
        follow(network("naive"), x)


def test_the_literal_form_is_not_said_to_serve_transforms(net, x):
    said = []

    def run(x):
        said.append(net.supported_forms())
        return net(x)[0].sum()

    torch.func.grad(run)(x)
    assert said == [["closed"]]
    assert "naive" in net.supported_forms()


@pytest.mark.parametrize("form", ["auto", "compiled"])
def test_fake_tensors_end_in_no_crash(form, x):
    fake = pytest.importorskip("torch._subclasses").FakeTensorMode(allow_non_fake_inputs=True)
    net = network(form)
    with fake:
        if form == "auto" or library.load() is None:
            assert net(fake.from_tensor(x))[0].shape == (2, 6, 2)
        else:
            with pytest.raises(ValueError, match="form='compiled'"):
                net(fake.from_tensor(x))


def test_what_a_function_mode_of_devices_shows_is_still_compiled(net, x):
    expected = net(x)[0]
    with torch.device("cpu"):
        assert torch.equal(net(x)[0], expected)


def test_a_network_without_memory_gives_shapes(net, x):
    y, state = copy.deepcopy(net).to("meta")(x.to("meta"))
    assert y.device.type == state.hidden.h.device.type == "meta"
    assert y.shape == (2, 6, 2)


# Tensors that are not what they seem.


class Marked(torch.Tensor):
    """A subclass of torch.Tensor that adds nothing."""


def test_subclasses_of_tensors_are_kept(net, closed, x):
    marked = x.as_subclass(Marked)
    assert type(net(marked)[0]) is type(closed(marked)[0]) is Marked
    assert_same([net(marked)[0].as_subclass(torch.Tensor)], [net(x)[0]])


def test_a_sign_that_is_only_noted_is_seen(net, x):
    assert_same([net(torch._neg_view(x))[0]], [net(-x)[0]])
    assert_same([net(torch.complex(x, -x).conj().imag)[0]], [net(x)[0]])


@pytest.mark.parametrize("bad", ["shape", "dtype"])
@needs_kernel
def test_a_hook_that_changes_what_was_saved_is_refused(net, x, bad):
    def unpack(leaf):
        return leaf.flatten()[:1] if bad == "shape" else leaf.to(torch.float32)

    with torch.autograd.graph.saved_tensors_hooks(lambda leaf: leaf, unpack):
        y = net(x)[0]
    with pytest.raises(RuntimeError, match="a hook returned a saved tensor with another"):
        y.sum().backward()


def gradients(net, y):
    return torch.autograd.grad(y.square().sum(), list(net.parameters()), allow_unused=True)


def test_saved_tensors_may_come_back_in_another_layout(net, closed, x):
    def pack(leaf):
        return leaf.clone()

    def unpack(leaf):
        return leaf.mT.contiguous().mT if leaf.dim() > 1 else leaf

    starts = torch.rand(2, 6, generator=torch.Generator().manual_seed(3)) < 0.3
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = net(x, None, starts)[0]
    assert_same(gradients(net, y), gradients(closed, closed(x, None, starts)[0]))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints_compute_the_sequence_again(net, closed, x, use_reentrant):
    leaf = x.clone().requires_grad_()
    y = checkpoint(lambda x: net(x)[0], leaf, use_reentrant=use_reentrant)
    y.square().sum().backward()
    expected = torch.autograd.grad(closed(x)[0].square().sum(), list(closed.parameters()))
    assert_same([p.grad for p in net.parameters()], expected)
    assert leaf.grad.any()


def test_outputs_may_be_written_into(net, closed, x):
    def masked(net):
        y, _ = net(x)
        y[:, 0] = 0
        return gradients(net, y)

    assert_same(masked(net), masked(closed))


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_gradients_of_the_state_alone(cell, x):
    def alone(form):
        net = network(form, cell=cell).requires_grad_(False)
        state = net.initial_state(2).map(lambda leaf: (leaf + 0.1).requires_grad_())
        y, _ = net(x, state)
        return torch.autograd.grad(y.square().sum(), list(state.to_dict().values()))

    assert_same(alone("auto"), alone("closed"))


def test_backward_passes_of_many_threads_at_once(net, closed, x):
    y, expected = net(x)[0], gradients(closed, closed(x)[0])
    results = []

    def differentiate():
        grads = torch.autograd.grad(
            y.square().sum(), list(net.parameters()), retain_graph=True, allow_unused=True
        )
        results.append((grads, net(x)[0]))

    threads = [threading.Thread(target=differentiate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for grads, output in results:
        assert_same(grads, expected)
        assert torch.equal(output, y)


@needs_kernel
def test_arrays_live_until_all_threads_are_done(net, x, monkeypatch):
    """An interrupt in one thread must not free what others write to."""
    monkeypatch.setattr(library, "_PARALLEL_WORK", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    started = []

    class Watched(threading.Thread):
        def __init__(self, target, args):
            super().__init__(target=target, args=args)
            held = [cell.cell_contents for cell in target.__closure__]
            started.append(any(isinstance(value, library.Problem) for value in held))

    monkeypatch.setattr(threading, "Thread", Watched)
    net(x)
    assert started == [True]


@needs_kernel
@pytest.mark.parametrize("kind", ["shape", "dtype"])
def test_parameters_of_another_shape_never_reach_the_kernel(net, x, kind):
    weight = net.layers["readout"].weight
    weight.data = weight.data[:2, :2].clone() if kind == "shape" else weight.data.float()
    with pytest.raises(ValueError, match=r"the network holds .* is needed"):
        net(x)


# Not-a-number is not hidden by an input of zero.


@pytest.mark.parametrize(("rule", "cell"), CASES)
@pytest.mark.parametrize("place", ["fast", "weight", "weight_alpha"])
@pytest.mark.parametrize("layer", ["encoder", "cell_input", "cell_hidden", "readout"])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_zero_inputs_hide_nothing(rule, cell, place, layer, poison, x):
    if layer == "readout" and math.isinf(poison):
        pytest.skip("the norm of an outer product with zeros is taken from its factors")
    x[:, 2:4] = 0

    def run(form):
        net = network(form, rule, cell)
        for name, bias in net.named_parameters():
            if name.endswith("encoder.bias"):
                bias.data.sub_(0.2)  # more rectified units that are zero
        state = net.initial_state(2)
        target = state.fast[layer].weight[0] if place == "fast" else None
        if target is None:
            target = getattr(net.layers[layer], place).data
        target[1, 0] = poison
        leaf = x.clone().requires_grad_()
        y, final = net(leaf, state)
        return [y, *final.to_dict().values()], torch.autograd.grad(y.sum(), leaf)[0]

    actual, actual_gradient = run("auto")
    expected, expected_gradient = run("naive")
    for one, other in zip(actual, expected, strict=True):
        if math.isnan(poison):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)
        else:  # what infinity times zero becomes depends on the order of products
            assert (one.isfinite() <= other.isfinite()).all()
    assert (actual_gradient.isfinite() <= expected_gradient.isfinite()).all()


# The same numbers alone and in any batch.


@needs_kernel
@pytest.mark.parametrize(("rule", "cell"), CASES)
def test_batch_changes_no_bit_in_the_compiled_form(rule, cell):
    net = network("compiled", rule, cell).float()
    x = torch.randn(9, 12, 3, generator=torch.Generator().manual_seed(4))
    whole, final = net(x)
    for index in range(9):
        alone, state = net(x[index : index + 1])
        assert torch.equal(alone[0], whole[index])
        expected = final.map(lambda leaf: leaf[index : index + 1]).to_dict()  # noqa: B023
        assert all(torch.equal(v, expected[k]) for k, v in state.to_dict().items())
