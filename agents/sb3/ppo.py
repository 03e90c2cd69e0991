"""`RecurrentPPO`: proximal policy optimisation through time, for any recurrent core."""

import itertools
import os
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
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import explained_variance, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.nn import functional as F

from agents.sb3.actions import actions_to_take, check_action_space
from agents.sb3.buffer import (
    LARGEST_ROLLOUT,
    RecurrentRolloutBuffer,
    RolloutSequences,
    check_device,
)
from agents.sb3.observations import check_observation_space
from agents.sb3.policies import PlasticPolicy, check_taken
from agents.sb3.vec_env import IGNORED, VectorEnvAdapter, ignored_steps_shown
from agents.tree import copied, map_tree
from plastic_envs.checks import check_bool, check_count, check_int, check_number, shown


class RecurrentPPO(OnPolicyAlgorithm):
    """PPO whose gradients run through whole rollouts.

    A rollout is `n_steps` of every environment. Each update goes through it `n_epochs` times, in
    minibatches of whole environments, each computed as one sequence of `n_steps`: gradients reach
    back to the rollout's first step, or to the episode's if that comes later. The core's state is
    stored only where the rollout begins; it is the one that the agent had then, and no gradient
    goes beyond it. So let `n_steps` span some episodes, if their beginning is to be remembered.
    Where an episode was cut off by a time limit, its return goes on with the value of the last
    observation, seen with the memory of that moment.

    Vector environments may start new episodes in any of Gymnasium's ways. In mode NEXT_STEP, the
    step that only starts an episode is part of the rollout, of `batch_size` and of
    `num_timesteps`; but the agent learns nothing from it, and no memory and no statistic sees it.
    The same holds for every step that a `VecEnv` marks by `info["ignored_step"]`. What is computed
    from the others is what it would be without it.

    Training that was ended by a callback or an exception can go on by
    `learn(…, reset_num_timesteps=False)`: where the environments stand, with the memory that
    belongs to it, or with new episodes if it was the environment that failed. A loaded model starts
    new episodes.

    Source: Schulman et al., arXiv 1707.06347, as
    Stable-Baselines3's `PPO` does it, whose arguments and logged values have the same names here.

    Args:
        policy: `"PlasticPolicy"` or a subclass of it; see there for `policy_kwargs`.
        env: A Gymnasium environment or its id, a Gymnasium vector environment, or a `VecEnv`.
        learning_rate: A number, or a function of the remaining progress (1 to 0).
        n_steps: Steps of each environment in a rollout.
        batch_size: Steps in a minibatch, a multiple of `n_steps` since environments stay whole; by
            default those of a quarter of the environments.
        n_epochs: Times that an update goes through the rollout.
        gamma: Discount factor.
        gae_lambda: λ of the generalised advantage estimate.
        clip_range: Bound on the change of the ratio; also a function of the remaining progress.
        clip_range_vf: Bound on the change of values, likewise; None for none.
        normalize_advantage: Scale the advantages of a minibatch to mean 0 and deviation 1.
        ent_coef: Weight of the entropy.
        vf_coef: Weight of the values' loss.
        max_grad_norm: Bound on the norm of the gradient.
        target_kl: Ends an update when the policy has moved 1.5 times as far; None for never.
        **kwargs: Passed on to `OnPolicyAlgorithm`: `policy_kwargs`, `tensorboard_log`, `verbose`,
            `seed`, `device`, `stats_window_size`, `monitor_wrapper`, `rollout_buffer_class` (a
            subclass of `RecurrentRolloutBuffer`), `rollout_buffer_kwargs`.

    Raises:
        ValueError: If an argument does not fit.
        TypeError: If an argument is not known here.

    Example:
        >>> import gymnasium as gym, plastic_envs
        >>> env = gym.make_vec("PlasticCueReward-v0", num_envs=8)
        >>> kwargs = dict(rule="gradient", cell="rnn", hidden_size=32)
        >>> model = RecurrentPPO("PlasticPolicy", env, n_steps=40, policy_kwargs=kwargs, seed=0)
        >>> model.learn(320).num_timesteps
        320
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"PlasticPolicy": PlasticPolicy}
    policy: PlasticPolicy
    rollout_buffer: RecurrentRolloutBuffer

    def __init__(
        self,
        policy: str | type[PlasticPolicy],
        env: GymEnv | VectorEnv[Any, Any, Any] | str | None,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 128,
        batch_size: int | None = None,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        target_kl: float | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs = _checked_base_arguments(kwargs)
        if isinstance(policy, str) and policy not in self.policy_aliases:
            known = ", ".join(map(repr, self.policy_aliases))
            raise ValueError(f"policy must be {known} or a PlasticPolicy, got {shown(policy)}")
        if not isinstance(policy, str):
            _check_class("policy", policy, PlasticPolicy)
        if env is None and _init_setup_model:
            raise ValueError("env must be an environment or its id, got None")
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]  # `_wrap_env` takes a vector environment, too
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            supported_action_spaces=(
                spaces.Box,
                spaces.Discrete,
                spaces.MultiDiscrete,
                spaces.MultiBinary,
            ),
            _init_setup_model=False,
            **kwargs,
        )
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.clip_range = clip_range
        self.clip_range_vf = clip_range_vf
        self.normalize_advantage = normalize_advantage
        self.target_kl = target_kl
        self._last_state: Any = None
        if _init_setup_model:
            self._setup_model()

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
        self._check()
        super()._setup_model()
        # A loaded model knows no memory that would fit to a saved observation.
        self._last_obs = self._last_state = None

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        # The last rollout may go beyond the end, where schedules are not defined.
        self._current_progress_remaining = max(0.0, self._current_progress_remaining)

    def _check(self) -> None:
        """Check all settings, also those that were loaded or changed."""
        self.n_steps = check_int("n_steps", self.n_steps, minimum=1)
        steps = self.n_steps * self.n_envs
        check_count(
            "a rollout's steps", steps, LARGEST_ROLLOUT, n_steps=self.n_steps, n_envs=self.n_envs
        )
        self.n_epochs = check_int("n_epochs", self.n_epochs, minimum=1)
        for name in ("gamma", "gae_lambda"):
            setattr(self, name, check_number(name, getattr(self, name), minimum=0, maximum=1))
        for name in ("ent_coef", "vf_coef"):
            setattr(self, name, check_number(name, getattr(self, name), minimum=0))
        self.max_grad_norm = check_number("max_grad_norm", self.max_grad_norm, above=0)
        if self.target_kl is not None:
            self.target_kl = check_number("target_kl", self.target_kl, above=0)
        self.normalize_advantage = check_bool("normalize_advantage", self.normalize_advantage)
        for name in ("learning_rate", "clip_range", "clip_range_vf"):
            schedule = getattr(self, name)
            if callable(schedule):
                self._now(name)
            elif name == "learning_rate":
                check_number(name, schedule, minimum=0)
            elif schedule is not None or name == "clip_range":
                check_number(name, schedule, above=0)
        if self.batch_size is not None:
            self.batch_size = check_int("batch_size", self.batch_size, minimum=1)
            if self.batch_size % self.n_steps:
                raise ValueError(
                    "a minibatch holds whole environments: batch_size must be a multiple of "
                    f"n_steps={self.n_steps}, got {self.batch_size}"
                )
        if self.normalize_advantage and self.n_steps * self.n_envs < 2:
            raise ValueError(
                "normalize_advantage=True needs rollouts of more than one step, got "
                f"n_steps={self.n_steps} of {self.n_envs} environment"
            )
        if self.use_sde:
            raise ValueError("use_sde=True is not supported: its noise would be a hidden state")
        check_int("stats_window_size", self._stats_window_size, minimum=1)
        if not isinstance(self.policy_kwargs, dict):
            raise ValueError(f"policy_kwargs must be a dictionary, got {shown(self.policy_kwargs)}")
        for name in ("observation_space", "action_space", "lr_schedule", "use_sde"):
            if name in self.policy_kwargs:
                raise ValueError(f"policy_kwargs must not hold {name!r}, which has its own place")
        self.policy_kwargs = copied(self.policy_kwargs)  # the caller may change them later
        _check_class("rollout_buffer_class", self.rollout_buffer_class, RecurrentRolloutBuffer)

    @property
    def envs_per_batch(self) -> int:
        """Environments in a minibatch."""
        if self.batch_size is None:
            return -(-self.n_envs // 4)
        return self.batch_size // self.n_steps

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
            ValueError: If a reward is not finite.
        """
        buffer: Any = rollout_buffer
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
            if not np.isfinite(rewards).all():
                self._last_obs = None
                raise ValueError(
                    f"the rewards of the environment must be finite numbers, got {shown(rewards)} "
                    f"after {self.num_timesteps} steps"
                )
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

    def train(self) -> None:
        """Update the policy from the rollout.

        A minibatch whose gradient is not finite, as can happen where fast weights grow over a long
        rollout, changes nothing and is counted.

        Raises:
            RuntimeError: If that is so for every minibatch.
        """
        policy, buffer = self.policy, self.rollout_buffer
        clip_range = self._now("clip_range")
        clip_range_vf = None if self.clip_range_vf is None else self._now("clip_range_vf")
        check_number("learning_rate", self.lr_schedule(self._current_progress_remaining), minimum=0)
        if not buffer.valid.any():
            return
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        epochs: list[list[dict[str, float]]] = []
        goes_on, skipped = True, 0
        while goes_on and len(epochs) < self.n_epochs:
            epochs.append([])
            self._n_updates += 1
            for batch in buffer.sequences(self.envs_per_batch):
                loss, terms = self._loss(batch, clip_range, clip_range_vf)
                epochs[-1].append(terms)
                if self.target_kl is not None and terms["approx_kl"] > 1.5 * self.target_kl:
                    goes_on = False
                    break
                policy.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), self.max_grad_norm)
                if norm.isfinite():
                    policy.optimizer.step()
                else:
                    skipped += 1
        if skipped and skipped == sum(map(len, epochs)):
            raise RuntimeError(
                f"no gradient of the update after {self.num_timesteps} steps is finite; a smaller "
                "learning rate, a smaller base_eta of the rule or a shorter rollout (n_steps) may "
                "help"
            )
        if policy.has_statistics:
            for batch in buffer.sequences(self.envs_per_batch):
                policy.update_statistics(batch.observations, batch.valid)
        self._record(epochs, clip_range, clip_range_vf)
        self.logger.record("train/skipped_minibatches", skipped)

    def _record(
        self, epochs: list[list[dict[str, float]]], clip_range: float, clip_range_vf: float | None
    ) -> None:
        """Log an update under the names, and with the averages, of Stable-Baselines3's PPO."""
        terms = list(itertools.chain(*epochs))
        for name in ("entropy_loss", "policy_gradient_loss", "value_loss", "clip_fraction"):
            self.logger.record(f"train/{name}", np.mean([found[name] for found in terms]))
        kl = np.mean([found["approx_kl"] for found in epochs[-1]])
        self.logger.record("train/approx_kl", kl)
        self.logger.record("train/loss", terms[-1]["loss"])
        buffer = self.rollout_buffer
        explained = explained_variance(buffer.values[buffer.valid], buffer.returns[buffer.valid])
        self.logger.record("train/explained_variance", explained)
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", self.policy.log_std.exp().mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)
        if clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", clip_range_vf)

    def _now(self, name: str) -> float:
        """Return a number, or what a schedule says, by its name."""
        schedule = getattr(self, name)
        if not callable(schedule):
            return float(schedule)
        progress = self._current_progress_remaining
        return check_number(f"{name}({progress:g})", schedule(progress), minimum=0)

    def _loss(
        self, batch: RolloutSequences, clip_range: float, clip_range_vf: float | None
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a minibatch, and what to log of it."""
        values, log_prob, entropy = self.policy.evaluate_actions(
            batch.observations, batch.actions, batch.initial_state, batch.episode_starts
        )
        old = batch.old_values, batch.old_log_prob, batch.advantages, batch.returns
        if batch.valid is not None:  # the others are no experience
            values, log_prob = values[batch.valid], log_prob[batch.valid]
            entropy = None if entropy is None else entropy[batch.valid]
            old = tuple(part[batch.valid] for part in old)  # type: ignore[assignment]
        old_values, old_log_prob, advantages, returns = old
        if self.normalize_advantage and advantages.numel() > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = log_prob - old_log_prob
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
        policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
        if clip_range_vf is not None:
            change = (values - old_values).clamp(-clip_range_vf, clip_range_vf)
            values = old_values + change
        value_loss = F.mse_loss(values, returns)
        entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
        loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        with torch.no_grad():
            terms = {
                "policy_gradient_loss": policy_loss,
                "value_loss": value_loss,
                "entropy_loss": entropy_loss,
                "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
                # Schulman's estimate, http://joschu.net/blog/kl-approx.html
                "approx_kl": (ratio - 1 - log_ratio).mean(),
                "loss": loss,
            }
            found = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))
        return loss, found

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
        self._check()
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


def _checked_base_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
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
    _check_class("rollout_buffer_class", kwargs["rollout_buffer_class"], RecurrentRolloutBuffer)
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


def _check_class(name: str, value: object, base: type) -> None:
    if not (isinstance(value, type) and issubclass(value, base)):
        raise ValueError(f"{name} must be {base.__name__} or a subclass, got {shown(value)}")


def _is_callback(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(part, BaseCallback) for part in value)
    return value is None or isinstance(value, BaseCallback) or callable(value)
