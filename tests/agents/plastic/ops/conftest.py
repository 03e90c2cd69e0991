"""All numbers of one run of a form, for the tests that compare two."""

import pytest
import torch


@pytest.fixture(scope="session")
def numbers():
    """Return a function that runs a form and returns all that it computes, by name.

    That is outputs, last state and probes, and the gradients of a loss of all of them for the
    input, the parameters, and the state if one is given.
    """

    def run(net, form, x, starts=None, state=None):
        net.form = form
        x = x.detach().requires_grad_()
        inputs = {"x": x, **dict(net.named_parameters())}
        if state is not None:
            state = state.map(lambda leaf: leaf.detach().requires_grad_())
            inputs |= state.to_dict()
        y, final, probes = net.probe(x, state, starts)
        loss = y.square().sum() + sum(leaf.sin().sum() for leaf in final.to_dict().values())
        grads = torch.autograd.grad(loss, list(inputs.values()), materialize_grads=True)
        found = {"y": y.detach(), **final.detach().to_dict(), **probes._asdict()}
        return found | {f"grad of {name}": grad for name, grad in zip(inputs, grads, strict=True)}

    return run
