"""The rollout buffer of a recurrent agent."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer, RolloutBuffer
from stable_baselines3.common.utils import get_device
from torch import Tensor

from agents.sb3.actions import check_action_space, sampled_space
from agents.sb3.observations import check_observation_space
from agents.tree import leaves, map_tree
from plastic_envs.checks import check_count, check_int, check_number, shown

Observations = Any
"""An array or tensor, or a dictionary of such."""


LARGEST_ROLLOUT = 2**26
"""Steps of all environments together that a rollout may have."""


class RolloutSequences(NamedTuple):
    """A minibatch of whole environments, [B, T, …].

    Attributes:
        observations: [B, T, …], or a dictionary of such.
        actions: float32 [B, T, action_dim]; for a MultiDiscrete space int64, and for a Discrete
            one int64 [B, T].
        old_values: Values when acting [B, T].
        old_log_prob: Log-probabilities of the actions when acting [B, T].
        advantages: [B, T].
        returns: What the values should be [B, T].
        episode_starts: bool [B, T].
        initial_state: State of the core before the first step.
        valid: bool [B, T], false at steps whose action was ignored; None where there are none.
    """

    observations: Observations
    actions: Tensor
    old_values: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    episode_starts: Tensor
    initial_state: Any
    valid: Tensor | None


class RecurrentRolloutBuffer(RolloutBuffer):
    """A rollout, and the core's state where it begins; states of later steps are not stored.

    Takes Box, Dict and all other observation spaces of Stable-Baselines3. Advantages and returns
    are those of `RolloutBuffer`; at a step whose action was ignored they mean nothing.

    Args:
        buffer_size: Steps of each environment.
        observation_space: Of one environment.
        action_space: Of one environment.
        device: Where minibatches go.
        gae_lambda: λ of the generalised advantage estimate.
        gamma: Discount factor.
        n_envs: Environments.

    Attributes:
        initial_state: State of the core before the first step, a tree of [n_envs, …].
        valid: bool [buffer_size, n_envs], false at steps whose action was ignored.

    Raises:
        ValueError: If an argument does not fit.
    """

    observations: Observations
    initial_state: Any = None
    valid: NDArray[np.bool_]

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        gae_lambda: float = 1,
        gamma: float = 0.99,
        n_envs: int = 1,
    ) -> None:
        buffer_size = check_int("buffer_size", buffer_size, minimum=1)
        n_envs = check_int("n_envs", n_envs, minimum=1)
        check_count(
            "a rollout's steps",
            buffer_size * n_envs,
            LARGEST_ROLLOUT,
            buffer_size=buffer_size,
            n_envs=n_envs,
        )
        check_observation_space(observation_space)
        check_action_space(action_space)
        gae_lambda = check_number("gae_lambda", gae_lambda, minimum=0, maximum=1)
        gamma = check_number("gamma", gamma, minimum=0, maximum=1)
        check_device(device)
        self._action_dtype: type[np.generic] = np.float32
        if isinstance(action_space, spaces.Discrete | spaces.MultiDiscrete):
            self._action_dtype = np.int64
        super().__init__(
            buffer_size,
            observation_space,
            sampled_space(action_space),
            device,
            gae_lambda,
            gamma,
            n_envs,
        )

    def reset(self) -> None:
        """Empty the buffer."""
        BaseBuffer.reset(self)
        shape = self.buffer_size, self.n_envs

        def zeros(dtype: Any, single_shape: tuple[int, ...]) -> NDArray[Any]:
            return np.zeros((*shape, *single_shape), dtype)

        if isinstance(self.observation_space, spaces.Dict):
            parts = self.observation_space.spaces
            shapes: Any = self.obs_shape
            self.observations = {name: zeros(parts[name].dtype, shapes[name]) for name in parts}
        else:
            self.observations = zeros(self.observation_space.dtype, self.obs_shape)
        self.actions = zeros(self._action_dtype, (self.action_dim,))
        for name in ("rewards", "values", "log_probs", "advantages", "returns", "episode_starts"):
            setattr(self, name, np.zeros(shape, np.float32))
        self.valid = np.ones(shape, np.bool_)
        self.initial_state = None

    def add_observations(self, obs: Observations) -> None:
        """Note what the environments show, before they go on and maybe change these arrays."""
        for store, part in zip(leaves(self.observations), self._in_order(obs), strict=True):
            store[self.pos] = np.reshape(part, store.shape[1:])

    def add(  # type: ignore[override]  # observations are there already
        self,
        action: NDArray[Any],
        reward: NDArray[Any],
        episode_start: NDArray[Any],
        value: Tensor,
        log_prob: Tensor,
        ignored: list[int],
    ) -> None:
        """Add a step of all environments, whose observations `add_observations` has noted.

        Args:
            action: [n_envs, …].
            reward: [n_envs].
            episode_start: [n_envs].
            value: [n_envs].
            log_prob: [n_envs].
            ignored: Environments whose action was ignored.
        """
        step = self.pos
        self.actions[step] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[step] = reward
        self.episode_starts[step] = episode_start
        self.values[step] = value.cpu().numpy()
        self.log_probs[step] = log_prob.cpu().numpy()
        if ignored:
            self.valid[step, ignored] = False
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def sequences(self, envs_per_batch: int | None = None) -> Iterator[RolloutSequences]:
        """Go through the rollout once, in minibatches of environments in random order.

        Args:
            envs_per_batch: Environments of a minibatch at most, spread evenly; None for all.
                Minibatches without a valid step are left out.

        Raises:
            RuntimeError: If the rollout is not complete.
            ValueError: If `envs_per_batch` is not positive.
        """
        if not self.full:
            raise RuntimeError(f"the rollout has {self.pos} of {self.buffer_size} steps")
        if envs_per_batch is None:
            envs_per_batch = self.n_envs
        count = -(-self.n_envs // check_int("envs_per_batch", envs_per_batch, minimum=1))
        # From torch's global generator, as the actions are: Stable-Baselines3 seeds that one.
        for envs in torch.randperm(self.n_envs).tensor_split(count):
            if self.valid[:, envs.numpy()].any():
                yield self._sequences_of(envs)

    def _sequences_of(self, envs: Tensor) -> RolloutSequences:
        chosen = envs.numpy()

        def batch_first(stored: NDArray[Any]) -> Tensor:
            part = torch.as_tensor(np.swapaxes(stored[:, chosen], 0, 1))
            return part.to(self.device)

        actions = batch_first(self.actions)
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.squeeze(2)
        valid = None if self.valid[:, chosen].all() else batch_first(self.valid)
        return RolloutSequences(
            map_tree(batch_first, self.observations),
            actions,
            batch_first(self.values),
            batch_first(self.log_probs),
            batch_first(self.advantages),
            batch_first(self.returns),
            batch_first(self.episode_starts > 0),
            map_tree(lambda leaf: leaf[envs.to(leaf.device)], self.initial_state),
            valid,
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
            self.valid,
            *leaves(self.observations),
        ]
        state = [] if self.initial_state is None else list(leaves(self.initial_state))
        return sum(array.nbytes for array in [*arrays, *state])

    def _in_order(self, obs: Observations) -> list[Any]:
        if isinstance(self.observations, dict):
            return [obs[name] for name in self.observations]
        return [obs]


def check_device(device: Any) -> None:
    """Check that Stable-Baselines3 and torch know a device.

    Raises:
        ValueError: If they do not.
    """
    try:
        get_device(device)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"device must be 'auto' or a device of torch that is there, got {shown(device)}"
        ) from error
