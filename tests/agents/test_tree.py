"""States as trees."""

import pytest
import torch

from agents import PlasticNetwork
from agents.plastic.state import FastWeights
from agents.tree import filled, leaves, map_tree, to_arrays

TREE = {"b": FastWeights(1, None), "a": [2, (3,)]}


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


def test_a_tree_is_filled_in_the_order_of_its_leaves():
    assert list(leaves(TREE)) == [1, None, 2, 3]
    assert filled(TREE, "wxyz") == {"b": FastWeights("w", "x"), "a": ["y", ("z",)]}
    assert filled(TREE, leaves(TREE)) == TREE


@pytest.mark.parametrize("count", [3, 5])
def test_a_tree_takes_as_many_values_as_it_has_leaves(count):
    with pytest.raises(ValueError, match=f"values must be 4, one a leaf, got {count}"):
        filled(TREE, range(count))
