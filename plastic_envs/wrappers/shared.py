"""What the wrappers share: where episodes start, and how observations are made of."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from plastic_envs.checks import shown
from plastic_envs.spaces import BoolArray, Observations

if TYPE_CHECKING:
    AnyVectorWrapper = VectorWrapper[Any, Any, Any, Any, NDArray[Any]]
else:
    AnyVectorWrapper = VectorWrapper  # in older versions of Gymnasium it takes no types


class Starts:
    """Knows which sub-environments start an episode with the observations just returned."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode not in tuple(AutoresetMode):
            raise ValueError(
                "env.metadata['autoreset_mode'] must be a gymnasium AutoresetMode, got "
                f"{shown(mode)}"
            )
        self._mode = AutoresetMode(mode)
        self._ended = np.zeros(env.num_envs, np.bool_)

    @property
    def starting(self) -> BoolArray:
        """Which will start with the next step, whatever the action is."""
        is_next = self._mode is AutoresetMode.NEXT_STEP
        return self._ended if is_next else np.zeros_like(self._ended)

    def at_reset(self, mask: BoolArray | None) -> BoolArray:
        """Return which have started with a reset (of the mask)."""
        started = np.ones_like(self._ended) if mask is None else mask
        self._ended = self._ended & ~started
        return started

    def at_step(self, terminated: BoolArray, truncated: BoolArray) -> BoolArray:
        """Return which start with a step."""
        before, self._ended = self._ended, np.logical_or(terminated, truncated)
        if self._mode is AutoresetMode.NEXT_STEP:
            return before
        if self._mode is AutoresetMode.SAME_STEP:
            return self._ended
        return np.zeros_like(before)


def with_final(
    infos: dict[str, Any], added: Callable[[int, Observations], Observations]
) -> dict[str, Any]:
    """Return infos whose last observations of episodes (of `SAME_STEP`) are as all others."""
    if "final_obs" not in infos:
        return infos
    final = infos["final_obs"].copy()
    for k in np.flatnonzero(infos["_final_obs"]):
        final[k] = added(int(k), final[k])
    return {**infos, "final_obs": final}


def parts_of(space: spaces.Space[Any], name: str) -> dict[str, Any]:
    """Return the entries of a Dict space, or a Box space as the only entry; all are Boxes."""
    parts: dict[str, Any] = dict(space) if isinstance(space, spaces.Dict) else {name: space}
    if not all(isinstance(part, spaces.Box) for part in parts.values()):
        raise ValueError(
            f"env's observations must be a Box, or a Dict of Boxes, got {shown(space)}; "
            "gymnasium.wrappers.FlattenObservation makes a Box of others"
        )
    return parts


def task_of(env: Any) -> Any:
    """Return the task of an environment of this package, also of one inside a `SyncVectorEnv`."""
    inner = getattr(env.unwrapped, "envs", None) or [env]
    return getattr(inner[0].unwrapped, "task", None)
