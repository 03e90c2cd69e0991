"""`RecurrentPPO`: proximal policy optimisation through time, for any recurrent core."""

import itertools
from typing import Any, ClassVar, Self

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

from agents.sb3.buffer import RecurrentRolloutBuffer, RolloutSequences
from agents.sb3.policies import PlasticPolicy
from agents.sb3.trees import map_tree
from agents.sb3.vec_env import VectorEnvAdapter


class RecurrentPPO(OnPolicyAlgorithm):
    """PPO whose gradients run through whole rollouts.

    A rollout is `n_steps` of every environment. Each update goes through it `n_epochs` times, in
    minibatches of whole environments, each computed as one sequence of `n_steps`: gradients reach
    back to the rollout's first step, or to the episode's if that comes later. The core's state is
    stored only where the rollout begins; it is the one that the agent had then, and no gradient
    goes beyond it. So let `n_steps` span some episodes, if their beginning is to be remembered.
    Where an episode was cut off by a time limit, its return goes on with the value of the last
    observation, seen with the memory of that moment. Source: Schulman et al., arXiv 1707.06347, as
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
            `seed`, `device`, `stats_window_size`.

    Raises:
        ValueError: If an argument does not fit.

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
            rollout_buffer_class=RecurrentRolloutBuffer,
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
            env = VectorEnvAdapter(env)
        return OnPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        self._check()
        super()._setup_model()
        if not isinstance(self.policy, PlasticPolicy):
            raise ValueError(f"policy must be a PlasticPolicy, got {type(self.policy).__name__}")
        self._last_state = None

    def _check(self) -> None:
        size = self.batch_size
        if size is not None and (size < 1 or size % self.n_steps):
            raise ValueError(
                "a minibatch holds whole environments: batch_size must be a multiple of "
                f"n_steps={self.n_steps}, got {size}"
            )
        clip = self.clip_range_vf
        if isinstance(clip, int | float) and clip <= 0:
            raise ValueError(f"clip_range_vf must be positive, or None for no bound, got {clip}")
        if self.normalize_advantage and self.n_steps * self.n_envs < 2:
            raise ValueError("normalize_advantage=True needs rollouts of more than one step")

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
        """
        buffer: Any = rollout_buffer
        self.policy.set_training_mode(False)
        buffer.reset()
        if self._last_state is None:
            self._last_state = self.policy.initial_state(env.num_envs)
        buffer.initial_state = self._last_state
        callback.on_rollout_start()

        for _ in range(n_rollout_steps):
            obs: Any = self._last_obs
            starts: Any = self._last_episode_starts
            with torch.no_grad():
                taken, values, log_probs, state = self.policy(
                    obs_as_tensor(obs, self.device), self._last_state, self._mask(starts)
                )
            actions = taken.cpu().numpy()
            clipped_actions = actions
            if isinstance(self.action_space, spaces.Box):
                clipped_actions = np.clip(actions, self.action_space.low, self.action_space.high)
            new_obs: Any
            new_obs, rewards, dones, infos = env.step(clipped_actions)
            self.num_timesteps += env.num_envs

            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            rewards = rewards + self.gamma * self._values_at_limit(dones, infos, state)
            buffer.add(obs, actions, rewards, starts, values, log_probs)
            self._last_obs, self._last_episode_starts = new_obs, dones
            self._last_state = state

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
        self, dones: NDArray[np.bool_], infos: list[dict[str, Any]], state: Any
    ) -> NDArray[np.float32]:
        """Return the values [n_envs] of the last observations of episodes cut off by time, else 0.

        Args:
            dones: Where an episode ended.
            infos: With the last observations.
            state: The core's state after the last action.
        """
        values = np.zeros(len(dones), np.float32)
        cut = [
            k
            for k in np.flatnonzero(dones)
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
        policy, clip_range = self.policy, self._now(self.clip_range)
        clip_range_vf = None if self.clip_range_vf is None else self._now(self.clip_range_vf)
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        epochs: list[list[dict[str, float]]] = []
        goes_on, skipped = True, 0
        while goes_on and len(epochs) < self.n_epochs:
            epochs.append([])
            self._n_updates += 1
            for batch in self.rollout_buffer.sequences(self.envs_per_batch):
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
            for batch in self.rollout_buffer.sequences(self.envs_per_batch):
                policy.update_statistics(batch.observations)
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
        values, returns = self.rollout_buffer.values, self.rollout_buffer.returns
        explained = explained_variance(values.flatten(), returns.flatten())
        self.logger.record("train/explained_variance", explained)
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", self.policy.log_std.exp().mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)
        if clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", clip_range_vf)

    def _now(self, schedule: float | Schedule) -> float:
        if callable(schedule):
            return float(schedule(self._current_progress_remaining))
        return schedule

    def _loss(
        self, batch: RolloutSequences, clip_range: float, clip_range_vf: float | None
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a minibatch, and what to log of it."""
        values, log_prob, entropy = self.policy.evaluate_actions(
            batch.observations, batch.actions, batch.initial_state, batch.episode_starts
        )
        advantages = batch.advantages
        if self.normalize_advantage and advantages.numel() > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = log_prob - batch.old_log_prob
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
        policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
        if clip_range_vf is not None:
            change = (values - batch.old_values).clamp(-clip_range_vf, clip_range_vf)
            values = batch.old_values + change
        value_loss = F.mse_loss(values, batch.returns)
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
        """Train for at least `total_timesteps` steps, all environments together."""
        return super().learn(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        )

    def _excluded_save_params(self) -> list[str]:
        # A saved model starts new episodes when it goes on, and they start from no memory.
        return [*super()._excluded_save_params(), "_last_state"]
