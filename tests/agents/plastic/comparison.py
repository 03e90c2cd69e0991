"""All numbers of one run of a form, and how far those of two runs are apart."""

import torch


def numbers(net, form, x, starts=None, state=None):
    """Run a form and return all that it computes, by name.

    That is outputs, last state and probes, and the gradients of a loss of all of them for the
    input, the parameters, and the state if one is given.
    """
    net.form = form
    x = x.detach().requires_grad_()
    inputs = {"x": x} | {name: p for name, p in net.named_parameters() if p.requires_grad}
    if state is not None:
        state = state.map(lambda leaf: leaf.detach().requires_grad_())
        inputs |= state.to_dict()
    y, final, probes = net.probe(x, state, starts)
    loss = y.square().sum() + sum(leaf.sin().sum() for leaf in final.to_dict().values())
    grads = torch.autograd.grad(loss, list(inputs.values()), materialize_grads=True)
    found = {"y": y.detach(), **final.detach().to_dict(), **probes._asdict()}
    return found | {f"grad of {name}": grad for name, grad in zip(inputs, grads, strict=True)}


def differences(actual, expected, tolerance):
    """Return the names of the numbers that are too far apart, and how far.

    An error is the largest deviation over the largest magnitude of what is expected, or over 1 if
    that is zero.
    """
    assert actual.keys() == expected.keys()
    errors = {name: relative_error(actual[name], value) for name, value in expected.items()}
    return {name: error for name, error in errors.items() if not error < tolerance}


def relative_error(actual, expected):
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max()) / (float(expected.abs().max()) or 1.0)
