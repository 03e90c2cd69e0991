"""States as trees: tuples, named tuples and dictionaries with tensors or arrays as leaves."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

Tree = TypeVar("Tree")


def map_tree(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """Apply a function to every leaf.

    Args:
        function: What to apply.
        tree: Tensor or array, or a tuple, named tuple, list or dictionary of trees.

    Returns:
        A tree of the same form.
    """
    made: Any
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        made = type(tree)(*(map_tree(function, part) for part in tree))
    elif isinstance(tree, tuple | list):
        made = type(tree)(map_tree(function, part) for part in tree)
    elif isinstance(tree, Mapping):
        made = {name: map_tree(function, part) for name, part in tree.items()}
    else:
        made = function(tree)
    return made  # type: ignore[no-any-return]  # of the form of `tree`


def leaves(tree: Any) -> Iterator[Any]:
    """Go through the leaves of a tree, in order."""
    if isinstance(tree, Mapping):
        tree = tuple(tree.values())
    if isinstance(tree, tuple | list):
        for part in tree:
            yield from leaves(part)
    else:
        yield tree


def copied(tree: Tree) -> Tree:
    """Return a tree whose containers and arrays nobody else holds; other leaves stay the same."""
    made: Any = tree
    if isinstance(tree, np.ndarray):
        made = np.array(tree)
        if tree.dtype == object:
            for place, part in np.ndenumerate(tree):
                made[place] = copied(part)
    elif type(tree) is dict:
        made = {name: copied(part) for name, part in tree.items()}  # type: ignore[attr-defined]
    elif type(tree) in (list, tuple):
        made = type(tree)(copied(part) for part in tree)  # type: ignore[call-arg,attr-defined]
    return made  # type: ignore[no-any-return]  # of the form of `tree`


def to_arrays(tree: Tree) -> Tree:
    """Turn the leaves into NumPy arrays of their own."""

    def to_array(leaf: Any) -> Any:
        return np.array(leaf.detach().cpu().numpy() if isinstance(leaf, Tensor) else leaf)

    return map_tree(to_array, tree)
