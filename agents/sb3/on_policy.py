"""Acting for on-policy algorithms: rollouts of an agent that remembers."""

import os
from abc import abstractmethod
from typing import Any, ClassVar, Self

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.sb3.actions import actions_to_take, check_action_space
from agents.sb3.buffer import RecurrentRolloutBuffer, check_device
from agents.sb3.observations import check_observation_space
from agents.sb3.policies import PlasticPolicy, check_taken
from agents.sb3.vec_env import IGNORED, VectorEnvAdapter, ignored_steps_shown
from agents.tree import leaves, map_tree
from plastic_envs.checks import check_bool, check_int, check_number, shown


class RecurrentOnPolicyAlgorithm(OnPolicyAlgorithm):
    """What collects rollouts, and goes on, starts anew and is saved with the memory in mind.

    A subclass updates the policy from a rollout (`train`), and checks its settings (`check`).

    Attributes:
        n_updates: Times that the rollouts were gone through.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"PlasticPolicy": PlasticPolicy}
    policy: PlasticPolicy
    rollout_buffer: RecurrentRolloutBuffer
    _last_state: Any = None

    @abstractmethod
    def check(self) -> None:
        """Check all settings, also those that were loaded or changed.

        Raises:
            ValueError: If one does not fit.
        """

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        if isinstance(env, VectorEnv):
            env = VectorEnvAdapter(env, ignored_steps="show")
        if not isinstance(env, gym.Env | VecEnv):
            raise ValueError(f"env must be an environment or its id, got {shown(env)}")
        check_observation_space(env.observation_space)
        check_action_space(env.action_space)
        return OnPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        self.check()
        super()._setup_model()
        # A loaded model knows no memory that would fit to a saved observation.
        self._last_obs = self._last_state = None

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        # The last rollout may go beyond the end, where schedules are not defined.
        self._current_progress_remaining = max(0.0, self._current_progress_remaining)

    @property
    def n_updates(self) -> int:
        """Times that the rollouts were gone through."""
        return self._n_updates

    def go_on_from(self, num_timesteps: int, n_updates: int) -> None:
        """Count on from a checkpoint."""
        self.num_timesteps, self._n_updates = num_timesteps, n_updates

    def start_new_episodes(self) -> None:
        """Let the next call of `learn` start new episodes, and new statistics of them."""
        self._last_obs = self._last_state = None
        self.ep_info_buffer = None

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Act for a rollout.

        Args:
            env: The environments.
            callback: Called after every step; local variables have Stable-Baselines3's names.
            rollout_buffer: What to fill.
            n_rollout_steps: Steps of each environment.

        Returns:
            False if the callback ended training.

        Raises:
            ValueError: If a reward or an observation is not finite.
        """
        buffer: Any = rollout_buffer
        self._check_finite("observations", self._last_obs)
        self.policy.set_training_mode(False)
        buffer.reset()
        if self._last_state is None or np.all(self._last_episode_starts):
            with torch.no_grad():
                self._last_state = self.policy.initial_state(env.num_envs)
        buffer.initial_state = map_tree(torch.clone, self._last_state)
        callback.on_rollout_start()

        for _ in range(n_rollout_steps):
            obs: Any = self._last_obs
            starts: Any = self._last_episode_starts
            with torch.no_grad():
                taken, values, log_probs, state = self.policy(
                    obs_as_tensor(obs, self.device), self._last_state, self._mask(starts)
                )
            actions = taken.cpu().numpy()
            clipped_actions = actions_to_take(actions, self.action_space)
            buffer.add_observations(obs)
            new_obs: Any
            try:
                new_obs, rewards, dones, infos = env.step(clipped_actions)
            except BaseException:
                self._last_obs = None  # where the environments stand is unknown: `learn` resets
                raise
            self._check_finite("rewards", rewards)
            self._check_finite("observations", new_obs)
            self.num_timesteps += env.num_envs
            dones = np.array(dones, np.bool_)
            ended = np.flatnonzero(dones).tolist()
            ignored = [k for k in ended if infos[k].get(IGNORED)]

            try:
                callback.update_locals(locals())
                goes_on = callback.on_step()
            finally:  # however this ends, memory and observation belong together
                self._last_obs, self._last_episode_starts = new_obs, dones
                self._last_state = state
            counted = [info for info in infos if not info.get(IGNORED)] if ignored else infos
            self._update_info_buffer(counted, np.delete(dones, ignored) if ignored else dones)
            if not goes_on:
                return False
            if ended:
                rewards = rewards + self.gamma * self._values_at_limit(ended, infos, state)
            buffer.add(actions, rewards, starts, values, log_probs, ignored)

        with torch.no_grad():
            values = self.policy.predict_values(
                obs_as_tensor(new_obs, self.device), self._last_state, self._mask(dones)
            )
        buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _check_finite(self, what: str, values: Any) -> None:
        """Refuse numbers of the environment that would spoil the rollout, and forget its episodes.

        Raises:
            ValueError: If some are not finite.
        """
        for part in leaves(values):
            if part.dtype.kind == "f" and not np.isfinite(part).all():
                self._last_obs = None  # `learn` resets
                raise ValueError(
                    f"the {what} of the environment must be finite numbers, got {shown(part)} "
                    f"after {self.num_timesteps} steps"
                )

    def _mask(self, flags: Any) -> Tensor:
        return torch.as_tensor(flags, dtype=torch.bool, device=self.device)

    def _values_at_limit(
        self, ended: list[int], infos: list[dict[str, Any]], state: Any
    ) -> NDArray[np.float32]:
        """Return the values [n_envs] of the last observations of episodes cut off by time, else 0.

        Args:
            ended: Where an episode ended.
            infos: With the last observations.
            state: The core's state after the last action.
        """
        values = np.zeros(len(infos), np.float32)
        cut = [
            k
            for k in ended
            if infos[k].get("TimeLimit.truncated") and "terminal_observation" in infos[k]
        ]
        if not cut:
            return values
        last = [infos[k]["terminal_observation"] for k in cut]
        if isinstance(self.observation_space, spaces.Dict):
            stacked: Any = {name: np.stack([part[name] for part in last]) for name in last[0]}
        else:
            stacked = np.stack(last)
        self._check_finite("last observations of episodes", stacked)
        with torch.no_grad():
            values[cut] = (
                self.policy.predict_values(
                    obs_as_tensor(stacked, self.device),
                    map_tree(lambda leaf: leaf[cut], state),
                    self._mask(np.zeros(len(cut))),
                )
                .cpu()
                .numpy()
            )
        return values

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "RecurrentPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for at least `total_timesteps` steps, all environments together.

        Args:
            total_timesteps: Steps; those whose action a vector environment ignores are among them.
            callback: Called at every step, or a list of such.
            log_interval: Rollouts from one record to the next; None for no records.
            tb_log_name: Name of the run for TensorBoard.
            reset_num_timesteps: Start new episodes and count from 0, or go on.
            progress_bar: Show one.

        Raises:
            ValueError: If an argument, or a setting changed since, does not fit, or there is no
                environment.
            RuntimeError: If no gradient of an update is finite.
        """
        check_number("total_timesteps", total_timesteps, minimum=0)
        if not _is_callback(callback):
            raise ValueError(
                "callback must be a callback, a function, or a list of callbacks, got "
                f"{shown(callback)}"
            )
        if log_interval is not None:
            log_interval = check_int("log_interval", log_interval, minimum=1)
        reset_num_timesteps = check_bool("reset_num_timesteps", reset_num_timesteps)
        progress_bar = check_bool("progress_bar", progress_bar)
        if self.env is None:
            raise ValueError("there is no environment to learn from: give one to load or set_env")
        self.check()
        with ignored_steps_shown(self.env):
            return super().learn(
                total_timesteps,
                callback,
                log_interval,
                tb_log_name,
                reset_num_timesteps,
                progress_bar,
            )

    def get_parameters(self) -> dict[str, dict[str, Any]]:
        """Return the state of policy and optimiser, on the CPU: a saved model fits any device."""
        return map_tree(
            lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, super().get_parameters()
        )

    def _excluded_save_params(self) -> list[str]:
        # A saved model starts new episodes when it goes on, and they start from no memory.
        return [*super()._excluded_save_params(), "_last_state"]


def checked_base_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for `OnPolicyAlgorithm` that this algorithm leaves open."""
    kwargs = dict(kwargs)
    fixed = {
        "use_sde": (False, "its noise would be a hidden state"),
        "sde_sample_freq": (-1, "it belongs to use_sde=True"),
        "supported_action_spaces": (None, "they are fixed"),
    }
    for name, (only, reason) in fixed.items():
        value = kwargs.pop(name, only)
        if type(value) is not type(only) or value != only:
            raise TypeError(f"{name}={shown(value)} is not supported: {reason}")
    if kwargs.get("rollout_buffer_class") is None:
        kwargs["rollout_buffer_class"] = RecurrentRolloutBuffer
    check_class("rollout_buffer_class", kwargs["rollout_buffer_class"], RecurrentRolloutBuffer)
    for name in ("policy_kwargs", "rollout_buffer_kwargs"):
        value = kwargs.get(name)
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"{name} must be a dictionary, or None, got {shown(value)}")
    given = kwargs.get("rollout_buffer_kwargs") or {}
    check_taken("rollout_buffer_kwargs", kwargs["rollout_buffer_class"], given)
    sizes = {"stats_window_size": (1, 2**31 - 1), "verbose": (0, 2), "seed": (0, 2**32 - 1)}
    for name, (minimum, maximum) in sizes.items():
        if kwargs.get(name) is not None or (name in kwargs and name != "seed"):
            kwargs[name] = check_int(name, kwargs[name], minimum=minimum, maximum=maximum)
    log = kwargs.get("tensorboard_log")
    if not isinstance(log, str | os.PathLike | None):
        raise ValueError(f"tensorboard_log must be a path, or None, got {shown(log)}")
    if "monitor_wrapper" in kwargs:
        kwargs["monitor_wrapper"] = check_bool("monitor_wrapper", kwargs["monitor_wrapper"])
    check_device(kwargs.get("device", "auto"))
    return kwargs


def check_class(name: str, value: object, base: type) -> None:
    """Refuse, under its name, what is no class derived from another."""
    if not (isinstance(value, type) and issubclass(value, base)):
        raise ValueError(f"{name} must be {base.__name__} or a subclass, got {shown(value)}")


def _is_callback(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(part, BaseCallback) for part in value)
    return value is None or isinstance(value, BaseCallback) or callable(value)
