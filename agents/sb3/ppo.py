"""`RecurrentPPO`: proximal policy optimisation through time, for any recurrent core."""

import itertools
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import explained_variance
from torch import Tensor
from torch.nn import functional as F

from agents.sb3.buffer import LARGEST_ROLLOUT, RecurrentRolloutBuffer, RolloutSequences
from agents.sb3.on_policy import RecurrentOnPolicyAlgorithm, check_class, checked_base_arguments
from agents.sb3.policies import PlasticPolicy
from agents.tensors import complete_gradients
from agents.tree import copied
from plastic_envs.checks import check_bool, check_count, check_int, check_number, shown


class RecurrentPPO(RecurrentOnPolicyAlgorithm):
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
        kwargs = checked_base_arguments(kwargs)
        if isinstance(policy, str) and policy not in self.policy_aliases:
            known = ", ".join(map(repr, self.policy_aliases))
            raise ValueError(f"policy must be {known} or a PlasticPolicy, got {shown(policy)}")
        if not isinstance(policy, str):
            check_class("policy", policy, PlasticPolicy)
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
        if _init_setup_model:
            self._setup_model()

    def check(self) -> None:
        """Check all settings, also those that were loaded or changed.

        Raises:
            ValueError: If one does not fit.
        """
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
        check_class("rollout_buffer_class", self.rollout_buffer_class, RecurrentRolloutBuffer)

    @property
    def envs_per_batch(self) -> int:
        """Environments in a minibatch."""
        if self.batch_size is None:
            return -(-self.n_envs // 4)
        return self.batch_size // self.n_steps

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
                complete_gradients(policy)
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
