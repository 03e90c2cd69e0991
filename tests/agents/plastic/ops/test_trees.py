import pytest

from agents.plastic.state import FastWeights
from agents.tree import filled, leaves

TREE = {"b": FastWeights(1, None), "a": [2, (3,)]}


def test_a_tree_is_filled_in_the_order_of_its_leaves():
    assert list(leaves(TREE)) == [1, None, 2, 3]
    assert filled(TREE, "wxyz") == {"b": FastWeights("w", "x"), "a": ["y", ("z",)]}
    assert filled(TREE, leaves(TREE)) == TREE


@pytest.mark.parametrize("count", [3, 5])
def test_a_tree_takes_as_many_values_as_it_has_leaves(count):
    with pytest.raises(ValueError, match=f"values must be 4, one a leaf, got {count}"):
        filled(TREE, range(count))
