"""Actions: as Stable-Baselines3's distributions sample them, and as environments take them."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.checks import shown

_ADVICE = (
    "gymnasium.wrappers.TransformAction (for a vector environment, "
    "gymnasium.wrappers.vector.TransformAction) gives an environment another action space"
)


def check_action_space(space: spaces.Space[Any]) -> None:
    """Check that actions of a space can be learned.

    Raises:
        ValueError: If it is not a bounded Box, Discrete, MultiDiscrete or MultiBinary, or is empty.
    """
    kinds = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    if not isinstance(space, kinds):
        problem = "be a Box, Discrete, MultiDiscrete or MultiBinary"
    elif 0 in (space.shape or ()):
        problem = "have at least one entry"
    elif isinstance(space, spaces.Box) and not (
        np.isfinite(space.low).all() and np.isfinite(space.high).all() and space.is_bounded()
    ):
        problem = "have finite lower and upper bounds"
    else:
        return
    raise ValueError(f"action_space must {problem}, got {shown(space)}; {_ADVICE}")


def sampled_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space of one axis, counted from 0, that a distribution samples from."""
    if isinstance(space, spaces.Discrete) and space.start != 0:
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec.ravel().astype(np.int64))
    if isinstance(space, spaces.MultiBinary) and len(space.shape) > 1:
        return spaces.MultiBinary(int(np.prod(space.shape)))
    return space


def first_action(space: spaces.Space[Any]) -> NDArray[np.int64] | None:
    """Return what a sample of `sampled_space` has to be raised by; None for nothing."""
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return None
    first = np.ravel(space.start).astype(np.int64)
    return first if first.any() else None


def actions_to_take(actions: NDArray[Any], space: spaces.Space[Any]) -> NDArray[Any]:
    """Return actions [N, …] as the environment declares them: within bounds, and of its type.

    The result shares no memory with `actions`.
    """
    if isinstance(space, spaces.Box):
        actions = np.clip(actions, space.low, space.high)
        if not np.issubdtype(space.dtype, np.floating):
            actions = np.rint(actions)
    return actions.astype(space.dtype)
