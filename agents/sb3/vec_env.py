"""`VectorEnvAdapter`: any Gymnasium vector environment as a Stable-Baselines3 `VecEnv`."""

import contextlib
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium import vector
from gymnasium.vector import (
    AsyncVectorEnv,
    AutoresetMode,
    SyncVectorEnv,
    VectorEnv,
    VectorWrapper,
)
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from agents.tree import copied
from plastic_envs.checks import check_choice, shown

_TAKE_A_MASK = (
    vector.VectorObservationWrapper,  # these keep no state
    vector.VectorActionWrapper,
    vector.VectorRewardWrapper,
)

IGNORED = "ignored_step"
"""Key of `info` at a step whose action was ignored."""

IgnoredSteps = Literal["raise", "show"]


class VectorEnvAdapter(VecEnv):
    """Let Stable-Baselines3 step a `gymnasium.vector.VectorEnv`.

    Stable-Baselines3 wants the first observation of the next episode from the very step that ends
    an episode, and the last observation in `info["terminal_observation"]`. How it gets them
    depends on the environment's `metadata["autoreset_mode"]`:

    - `SAME_STEP` does just that.
    - `DISABLED`: what ended is reset at once, through `reset(options={"reset_mask": …})`.
    - `NEXT_STEP` needs one more call of `step`, whose action is ignored, and which
      Stable-Baselines3 must not see. If all episodes end together, as in this package's sequence
      tasks, the adapter makes that call itself. If only some end, the others cannot be held back:
      these alone are reset through `reset_mask`, where that is known to work (a `SyncVectorEnv`, an
      `AsyncVectorEnv` with shared memory, and what says so by an attribute `takes_reset_mask`,
      with wrappers that have no state or say so, too). Elsewhere it is `ignored_steps` that
      decides.

    With `ignored_steps="show"` an ignored step is an episode of its own that counts for nothing:
    after an episode's end the last observation stays, and the next step has reward 0, `done` and
    `info["ignored_step"]`, and leads to the first observation of the next episode. `RecurrentPPO`
    leaves such steps out of everything it computes, and `evaluate_policy` of what it counts. The
    algorithms of Stable-Baselines3 itself, and its `VecNormalize` and `VecMonitor`, would take them
    for experience.

    Nothing handed out is written to by the environment later, or by the adapter.

    Every `info` also has `"TimeLimit.truncated"`, and at the end of an episode `"episode"` with
    return `r`, length `l` and time `t`, as from Stable-Baselines3's `Monitor`. Therefore
    `env_is_wrapped(Monitor)` is True.

    Args:
        env: The vector environment, also with vector wrappers around it.
        ignored_steps: `"raise"` an error or `"show"` them, where they cannot be avoided.

    Attributes:
        ignored_steps: As given; may be changed.

    Raises:
        ValueError: If it is not a vector environment, or does not say how it resets, or
            `ignored_steps` is unknown.

    Example:
        >>> import gymnasium as gym, plastic_envs
        >>> env = VectorEnvAdapter(gym.make_vec("PlasticCopy-v0", num_envs=4))
        >>> env.reset().shape
        (4, 3)
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], ignored_steps: IgnoredSteps = "raise"
    ) -> None:
        if not isinstance(env, VectorEnv):
            raise ValueError(
                f"env must be a gymnasium.vector.VectorEnv, got {type(env).__name__}; "
                "Stable-Baselines3 takes a single gymnasium.Env as it is"
            )
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(
                "env.metadata['autoreset_mode'] must be a gymnasium AutoresetMode, got "
                f"{shown(mode)}"
            )
        self.ignored_steps = check_choice("ignored_steps", ignored_steps, get_args(IgnoredSteps))
        self.env = env
        self.spec = env.spec
        self._mode = mode
        self._resets_by_mask = self._mode is AutoresetMode.DISABLED or _takes_a_mask(env)
        self._actions: Any = None
        self._began = time.time()
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._waiting: dict[int, Any] = {}  # whose next action is ignored, and what they showed

    def reset(self) -> Any:
        """Start new episodes in all sub-environments; a seed or options set before are used up."""
        options = self._options[0]
        if any(other != options for other in self._options[1:]):
            raise ValueError("a vector environment takes the same options for all sub-environments")
        # Gymnasium gives sub-environment i the seed `seed + i`, as Stable-Baselines3 does.
        observations, infos = self.env.reset(seed=self._seeds[0], options=options or None)
        self.reset_infos = _as_list(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        self._waiting = {}
        return copied(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Note the actions for `step_wait`."""
        self._actions = copied(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step.

        Returns:
            Observations [num_envs, …], rewards float32 [num_envs], whether an episode ended, bool
            [num_envs], and a dictionary of each sub-environment.

        Raises:
            RuntimeError: If only some episodes ended, and the environment cannot reset these alone.
        """
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        observations, rewards = copied(observations), np.array(rewards)
        dones = np.logical_or(terminated, truncated)
        listed = _as_list(infos, self.num_envs)
        ignored, self._waiting = self._waiting, {}
        for k in ignored:  # they only started their episodes
            rewards[k], self.reset_infos[k] = 0, dict(listed[k])
        self._returns += rewards
        self._lengths += 1
        if dones.any():
            ended = [k for k in np.flatnonzero(dones).tolist() if k not in ignored]
            if self._mode is AutoresetMode.SAME_STEP:
                self._unpack_final(listed, ended)
            else:
                for k in ended:
                    listed[k]["terminal_observation"] = _entry(observations, k)
                observations = self._restart(observations, dones)
            self._add_statistics(listed, ended)
        by_time = np.logical_and(truncated, np.logical_not(terminated)).tolist()
        for info, cut in zip(listed, by_time, strict=True):
            info["TimeLimit.truncated"] = cut
        for k, shown_before in ignored.items():
            listed[k] |= {IGNORED: True, "terminal_observation": shown_before}
            listed[k]["TimeLimit.truncated"] = False
            dones[k], self._returns[k], self._lengths[k] = True, 0, 0
        return observations, rewards.astype(np.float32, copy=False), dones, listed

    def _unpack_final(self, infos: list[dict[str, Any]], ended: list[int]) -> None:
        """Move what `SAME_STEP` says of the ended episodes to where Stable-Baselines3 looks."""
        for k in ended:
            after_reset = infos[k]
            if after_reset.get("final_obs") is None:
                raise RuntimeError(
                    f"{self.env} ended an episode in autoreset mode SAME_STEP, but gave no "
                    "infos['final_obs'] for it"
                )
            observation = after_reset.pop("final_obs")
            infos[k] = dict(after_reset.pop("final_info", None) or {})
            infos[k]["terminal_observation"] = observation
            self.reset_infos[k] = after_reset

    def _restart(self, observations: Any, dones: NDArray[np.bool_]) -> Any:
        """Start new episodes where one ended, if that can be; return all observations."""
        if dones.all():
            if self._mode is AutoresetMode.NEXT_STEP:
                first, _, _, _, infos = self.env.step(self._actions)  # actions are ignored
            else:
                first, infos = self.env.reset()
        elif self._resets_by_mask:
            first, infos = self.env.reset(options={"reset_mask": dones.copy()})
        elif self.ignored_steps == "show":
            self._waiting = {k: _entry(observations, k) for k in np.flatnonzero(dones).tolist()}
            return observations
        else:
            raise RuntimeError(
                f"only some episodes of {self.env} ended, and in autoreset mode NEXT_STEP these "
                f"alone cannot be reset at once; {_ADVICE}"
            )
        listed = _as_list(infos, self.num_envs)
        for k in np.flatnonzero(dones):
            self.reset_infos[k] = listed[k]
        return _replaced(observations, first, dones)

    def _add_statistics(self, infos: list[dict[str, Any]], ended: list[int]) -> None:
        elapsed = round(time.time() - self._began, 6)
        for k in ended:
            infos[k]["episode"] = {
                "r": round(float(self._returns[k]), 6),
                "l": int(self._lengths[k]),
                "t": elapsed,
            }
        self._returns[ended], self._lengths[ended] = 0, 0

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """Return a picture of each sub-environment, uint8 [height, width, 3]."""
        if self.render_mode != "rgb_array":
            warnings.warn(
                f"pictures need render_mode='rgb_array', but it is {shown(self.render_mode)}",
                stacklevel=2,
            )
            return [None] * self.num_envs
        pictures: Any = self.env.render()
        return list(pictures)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of each sub-environment.

        Where sub-environments are objects of their own, theirs; else that of the vector
        environment (or of a wrapper around it), the same for all.
        """
        chosen = list(self._get_indices(indices))
        if attr_name == "render_mode":  # asked for at once, and never different
            return [self.env.render_mode] * len(chosen)
        unwrapped: Any = self.env.unwrapped
        if hasattr(unwrapped, "get_attr"):
            values = unwrapped.get_attr(attr_name)
            return [values[k] for k in chosen]
        return [getattr(self._owner(attr_name), attr_name)] * len(chosen)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of sub-environments.

        Raises:
            NotImplementedError: If they are not objects of their own, and only some are meant.
        """
        chosen = list(self._get_indices(indices))
        everyone = sorted(chosen) == list(range(self.num_envs))
        unwrapped: Any = self.env.unwrapped
        if not hasattr(unwrapped, "set_attr"):
            if not everyone:
                raise self._one_object(f"attribute {shown(attr_name)} cannot be set for some alone")
            setattr(self._owner(attr_name), attr_name, value)
            return
        values = [value] * self.num_envs
        if not everyone:
            values = list(unwrapped.get_attr(attr_name))
            for k in chosen:
                values[k] = value
        unwrapped.set_attr(attr_name, values)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of each sub-environment, and return what each returned.

        Raises:
            NotImplementedError: If only some are meant and cannot be called alone, or if the
                vector environment's method does not return one result per sub-environment.
        """
        chosen = list(self._get_indices(indices))
        unwrapped = self.env.unwrapped
        if isinstance(unwrapped, SyncVectorEnv):
            envs = [unwrapped.envs[k] for k in chosen]
            return [env.get_wrapper_attr(method_name)(*method_args, **kwargs) for env in envs]
        if chosen != list(range(self.num_envs)):
            raise self._one_object(f"{method_name}() cannot be called for some alone")
        if hasattr(unwrapped, "call"):
            return list(unwrapped.call(method_name, *method_args, **kwargs))
        results = getattr(self._owner(method_name), method_name)(*method_args, **kwargs)
        if results is None:
            return [None] * self.num_envs
        if not _is_one_for_each(results, self.num_envs):
            raise self._one_object(f"{method_name}() does not return one result for each")
        return list(results)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Say which sub-environments are in a wrapper; True for `Monitor`, whose work this does."""
        chosen = list(self._get_indices(indices))
        if issubclass(wrapper_class, Monitor):
            return [True] * len(chosen)
        envs: Iterable[Any] = getattr(self.env.unwrapped, "envs", [None] * self.num_envs)
        wrapped = [_is_wrapped(env, wrapper_class) for env in envs]
        return [wrapped[k] for k in chosen]

    def _owner(self, name: str) -> Any:
        """Return the outermost of the vector environment and its wrappers with an attribute."""
        layer: Any = self.env
        while isinstance(layer, VectorWrapper):
            if name in vars(layer) or hasattr(type(layer), name):
                return layer
            layer = layer.env
        if not hasattr(layer, name):
            raise AttributeError(f"{shown(self.env)} has no attribute {shown(name)}")
        return layer

    def _one_object(self, problem: str) -> NotImplementedError:
        return NotImplementedError(
            f"{self.env.unwrapped} is one object for all its sub-environments: {problem}; "
            "use the attribute `env` of this adapter"
        )


@contextlib.contextmanager
def ignored_steps_shown(env: VecEnv) -> Iterator[None]:
    """Let the adapter inside of `env`, if there is one, show ignored steps for a while."""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    if not isinstance(env, VectorEnvAdapter):
        yield
        return
    before, env.ignored_steps = env.ignored_steps, "show"
    try:
        yield
    finally:
        env.ignored_steps = before


_ADVICE = (
    "make it with AutoresetMode.SAME_STEP (a native environment that knows it takes it as "
    "autoreset_mode; for all others: gym.make_vec(…, vectorization_mode='sync', "
    "vector_kwargs={'autoreset_mode': AutoresetMode.SAME_STEP})), or, for RecurrentPPO and for "
    "evaluation, use VectorEnvAdapter(…, ignored_steps='show')"
)


def _takes_a_mask(env: VectorEnv[Any, Any, Any]) -> bool:
    """Say whether a mask in `reset` is known to work in mode NEXT_STEP.

    Wrappers with a state may not expect one, and an `AsyncVectorEnv` without shared memory resets
    again at the next step (Gymnasium 1.4).
    """
    while isinstance(env, VectorWrapper):
        if not (isinstance(env, _TAKE_A_MASK) or getattr(type(env), "takes_reset_mask", False)):
            return False
        env = env.env
    if isinstance(env, AsyncVectorEnv):
        return bool(env.shared_memory)
    return isinstance(env, SyncVectorEnv) or bool(getattr(env, "takes_reset_mask", False))


def _replaced(observations: Any, others: Any, where: NDArray[np.bool_]) -> Any:
    """Return observations with those of other ones at some places."""
    if isinstance(observations, Mapping):
        return {name: _replaced(observations[name], others[name], where) for name in observations}
    if isinstance(observations, tuple):  # of what is no array, such as texts
        chosen = zip(observations, others, where, strict=True)
        return tuple(other if is_other else part for part, other, is_other in chosen)
    observations[where] = others[where]
    return observations


def _as_list(infos: Any, num_envs: int) -> list[dict[str, Any]]:
    """Turn Gymnasium's dictionary of arrays and masks into dictionaries, of their own, for each.

    The wrapper `DictInfoToList` has done so already.
    """
    if not isinstance(infos, Mapping):
        return [copied(dict(info)) for info in infos]
    return _listed(copied(dict(infos)), num_envs)


def _listed(infos: Mapping[str, Any], num_envs: int) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for name, values in infos.items():
        if name.startswith("_") and name[1:] in infos:
            continue
        if isinstance(values, Mapping) and name != "final_obs":
            entries: Any = _listed(values, num_envs)
        elif isinstance(values, Mapping):
            entries = [_entry(values, k) for k in range(num_envs)]
        elif not _is_one_for_each(values, num_envs):
            entries = [copied(values) for _ in range(num_envs)]  # not Gymnasium's form: for all
        else:
            entries = values
        mask = infos.get(f"_{name}")
        if mask is None or np.all(mask):
            for info, entry in zip(listed, entries, strict=True):
                info[name] = entry
        else:
            for k in np.flatnonzero(mask):
                listed[k][name] = entries[k]
    return listed


def _entry(observations: Any, k: int) -> Any:
    """Return a copy of one observation of a batch."""
    if isinstance(observations, Mapping):
        return {name: _entry(part, k) for name, part in observations.items()}
    return np.array(observations[k])


def _is_wrapped(env: Any, wrapper_class: type[Any]) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, wrapper_class):
            return True
        env = env.env
    return False


def _is_one_for_each(values: Any, num_envs: int) -> bool:
    """Say whether something is a row of as many entries as there are sub-environments."""
    if isinstance(values, np.ndarray):
        return bool(values.shape[:1] == (num_envs,))
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        return False
    return len(values) == num_envs
