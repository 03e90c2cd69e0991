"""States as trees."""

import torch

from agents import PlasticNetwork
from agents.tree import leaves, map_tree, to_arrays


def test_trees():
    net = PlasticNetwork(2, 1, 3)
    state = net.initial_state(2)
    one_more = map_tree(lambda leaf: leaf + 1, state)
    assert type(one_more) is type(state)
    assert all((leaf == 1).all() for leaf in leaves(one_more))
    assert len(list(leaves(state))) == len(state.to_dict())
    arrays = to_arrays([one_more, (torch.zeros(1), 2)])
    assert arrays[0].hidden.h.sum() == 6
    back = map_tree(torch.as_tensor, arrays)
    torch.testing.assert_close(back[0].to_dict(), one_more.to_dict())
