"""Observation spaces: which of them policies take, and which are images."""

from typing import Any

import numpy as np
from gymnasium import spaces

from plastic_envs.checks import check_instance, shown

_FLATTEN = (
    "gymnasium.wrappers.FlattenObservation (for a vector environment, "
    "gymnasium.wrappers.vector.FlattenObservation) makes a Box of it"
)
_TRANSFORM = (
    "gymnasium.wrappers.TransformObservation (for a vector environment, "
    "gymnasium.wrappers.vector.TransformObservation) makes something else of it"
)
_FILTER = (
    "gymnasium.wrappers.FilterObservation (for a vector environment, "
    "gymnasium.wrappers.vector.FilterObservation) leaves it out"
)


def check_observation_space(space: spaces.Space[Any]) -> None:
    """Check that a policy can take observations of a space.

    Raises:
        ValueError: If not. The error names the wrapper that helps.
    """
    check_instance("observation_space", space, spaces.Space, "a Gymnasium space")
    if not isinstance(space, spaces.Dict):
        _check_part("observation_space", space, in_dict=False)
        return
    if not space.spaces:
        raise ValueError("observation_space must not be a Dict without entries")
    for name, part in space.spaces.items():
        _check_part(f"observation_space[{shown(name)}]", part, in_dict=True)


def is_image(space: spaces.Space[Any]) -> bool:
    """Say whether observations are images: rank 3, and uint8 in [0, 255] or floats in [0, 1]."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        return False
    if space.dtype != np.uint8 and not np.issubdtype(space.dtype, np.floating):
        return False
    brightest = 255 if space.dtype == np.uint8 else 1
    return bool((space.low == 0).all() and (space.high == brightest).all())


def _check_part(name: str, space: spaces.Space[Any], *, in_dict: bool) -> None:
    problem, help_ = None, _FLATTEN
    if isinstance(space, spaces.Dict | spaces.Tuple):
        problem = "not be a Dict or Tuple" + (" inside of a Dict" if in_dict else "")
        help_ = _FLATTEN if _flattens(space) else _TRANSFORM
    elif not isinstance(
        space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    ):
        problem = "be a Box, Discrete, MultiDiscrete, MultiBinary"
        problem += " (or a Dict of these)" if not in_dict else ""
        help_ = _FILTER if in_dict else _FLATTEN if _flattens(space) else _TRANSFORM
    elif isinstance(space, spaces.Box) and not (space.shape and np.prod(space.shape)):
        problem = "have an axis, and at least one entry"
    elif isinstance(space, spaces.MultiDiscrete) and len(space.shape) != 1:
        problem = "have one axis"
    elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and np.any(space.start):
        problem = "start at 0"
    if problem is not None:
        raise ValueError(f"{name} must {problem}, got {shown(space)}; {help_}")


def _flattens(space: spaces.Space[Any]) -> bool:
    try:
        return bool(space.is_np_flattenable)
    except NotImplementedError:  # a space of somebody's own
        return False
