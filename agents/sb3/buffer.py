"""The rollout buffer of a recurrent agent."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer, RolloutBuffer
from torch import Tensor

from agents.sb3.trees import leaves, map_tree

Observations = Any
"""An array or tensor, or a dictionary of such."""


class RolloutSequences(NamedTuple):
    """A minibatch of whole environments, [B, T, …].

    Attributes:
        observations: [B, T, …], or a dictionary of such.
        actions: float32 [B, T, action_dim]; int64 [B, T] for a Discrete space.
        old_values: Values when acting [B, T].
        old_log_prob: Log-probabilities of the actions when acting [B, T].
        advantages: [B, T].
        returns: What the values should be [B, T].
        episode_starts: bool [B, T].
        initial_state: State of the core before the first step.
    """

    observations: Observations
    actions: Tensor
    old_values: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    episode_starts: Tensor
    initial_state: Any


class RecurrentRolloutBuffer(RolloutBuffer):
    """A rollout, and the core's state where it begins; states of later steps are not stored.

    Takes Box, Dict and all other observation spaces of Stable-Baselines3. Advantages and returns
    are those of `RolloutBuffer`.

    Attributes:
        initial_state: State of the core before the first step, a tree of [n_envs, …].
    """

    observations: Observations
    initial_state: Any = None

    def reset(self) -> None:
        """Empty the buffer."""
        BaseBuffer.reset(self)
        shape = self.buffer_size, self.n_envs

        def zeros(space: Any, single_shape: tuple[int, ...]) -> NDArray[Any]:
            return np.zeros((*shape, *single_shape), space.dtype)

        if isinstance(self.observation_space, spaces.Dict):
            parts = self.observation_space.spaces
            shapes: Any = self.obs_shape
            self.observations = {name: zeros(parts[name], shapes[name]) for name in parts}
        else:
            self.observations = zeros(self.observation_space, self.obs_shape)
        self.actions = zeros(self.action_space, (self.action_dim,))
        for name in ("rewards", "values", "log_probs", "advantages", "returns", "episode_starts"):
            setattr(self, name, np.zeros(shape, np.float32))
        self.initial_state = None

    def add(
        self,
        obs: Observations,
        action: NDArray[Any],
        reward: NDArray[Any],
        episode_start: NDArray[Any],
        value: Tensor,
        log_prob: Tensor,
    ) -> None:
        """Add a step of all environments; `value` and `log_prob` are [n_envs]."""
        step = self.pos
        for store, part in zip(leaves(self.observations), self._in_order(obs), strict=True):
            store[step] = np.reshape(part, store.shape[1:])
        self.actions[step] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[step] = reward
        self.episode_starts[step] = episode_start
        self.values[step] = value.cpu().numpy()
        self.log_probs[step] = log_prob.cpu().numpy()
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def sequences(self, envs_per_batch: int | None = None) -> Iterator[RolloutSequences]:
        """Go through the rollout once, in minibatches of environments in random order.

        Args:
            envs_per_batch: Environments of a minibatch at most, spread evenly; None for all.

        Raises:
            RuntimeError: If the rollout is not complete.
        """
        if not self.full:
            raise RuntimeError(f"the rollout has {self.pos} of {self.buffer_size} steps")
        count = -(-self.n_envs // (envs_per_batch or self.n_envs))
        # From torch's global generator, as the actions are: Stable-Baselines3 seeds that one.
        for envs in torch.randperm(self.n_envs).tensor_split(count):
            yield self._sequences_of(envs)

    def _sequences_of(self, envs: Tensor) -> RolloutSequences:
        chosen = envs.numpy()

        def batch_first(stored: NDArray[Any]) -> Tensor:
            part = torch.as_tensor(np.swapaxes(stored[:, chosen], 0, 1))
            return part.to(self.device)

        actions = batch_first(self.actions)
        is_choice = isinstance(self.action_space, spaces.Discrete)
        actions = actions.long().squeeze(2) if is_choice else actions.float()
        return RolloutSequences(
            map_tree(batch_first, self.observations),
            actions,
            batch_first(self.values),
            batch_first(self.log_probs),
            batch_first(self.advantages),
            batch_first(self.returns),
            batch_first(self.episode_starts > 0),
            map_tree(lambda leaf: leaf[envs.to(leaf.device)], self.initial_state),
        )

    def nbytes(self) -> int:
        """Return the bytes that the rollout takes, with the state at its beginning."""
        arrays = [
            self.actions,
            self.rewards,
            self.values,
            self.log_probs,
            self.advantages,
            self.returns,
            self.episode_starts,
            *leaves(self.observations),
        ]
        state = [] if self.initial_state is None else list(leaves(self.initial_state))
        return sum(array.nbytes for array in [*arrays, *state])

    def _in_order(self, obs: Observations) -> list[Any]:
        if isinstance(self.observations, dict):
            return [obs[name] for name in self.observations]
        return [obs]
