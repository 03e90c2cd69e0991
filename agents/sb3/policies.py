"""`PlasticPolicy`: actor and critic on top of one recurrent core."""

from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    MlpExtractor,
    NatureCNN,
)
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.cells import Cell
from agents.network import CellName, RuleName
from agents.rules import Rule
from agents.sb3.cores import CoreFactory, CoreName, make_core
from agents.sb3.extractor import ImageLabelExtractor, has_image_and_label
from agents.sb3.trees import leaves, map_tree, to_arrays, to_tensors

State = Any
"""State of a core: a tree of tensors [B, …]."""


class PlasticPolicy(ActorCriticPolicy):
    """A policy that remembers: features extractor → recurrent core → actor and critic.

    Features extractor and core are shared by actor and critic, each of which has its own small
    network (`net_arch`) on the core's output. The features extractor sees one observation at a
    time and always works as in evaluation, so that an action has the same probability in training
    as when it was taken; its batch statistics move between updates (`update_statistics`).

    Args:
        observation_space: Any that Stable-Baselines3 takes. `{"image": …, "label": …}` goes through
            `ImageLabelExtractor`, other dictionaries through `CombinedExtractor`, images through
            `NatureCNN`, everything else is flattened; or `features_extractor_class`.
        action_space: Box, Discrete, MultiDiscrete or MultiBinary.
        lr_schedule: Learning rate by the remaining progress.
        core: `"plastic"`, `"lstm"`, `"gru"`, `"rnn"`, `"mlp"` (no memory), or a function of
            `input_size` and `hidden_size` that makes a `RecurrentCore` or a module of torch's.
        hidden_size: Units of the core.
        rule: Plasticity rule (plastic core only): `"gradient"` (the default), `"hebbian"`,
            `"none"`, or an `agents.Rule`.
        cell: Cell (plastic core only): `"rnn"` (the default) or `"lstm"`.
        output_size: Outputs of the core (plastic core only), 32 by default. They are plastic, and
            with them go as many more fast weights.
        core_kwargs: Further arguments of what makes the core, such as `extra_dim` or `num_layers`.
        net_arch: Layers of actor and critic after the core, as Stable-Baselines3 writes them; one
            of 64 units each by default.
        **kwargs: Passed on to `ActorCriticPolicy`: `activation_fn`, `ortho_init`, `log_std_init`,
            `features_extractor_class`, `optimizer_class`, …

    Attributes:
        core: The `RecurrentCore`.
        has_statistics: Whether the features extractor has batch statistics.

    Raises:
        ValueError: If an argument is unknown or does not fit.
    """

    core: Any

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        core: CoreName | CoreFactory = "plastic",
        hidden_size: int = 64,
        rule: RuleName | Rule | None = None,
        cell: CellName | Cell | None = None,
        output_size: int | None = None,
        core_kwargs: dict[str, Any] | None = None,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("use_sde"):
            raise ValueError("use_sde=True is not supported: its noise would be a hidden state")
        if not kwargs.get("share_features_extractor", True):
            raise ValueError("share_features_extractor=False is not supported: there is one core")
        extractor = kwargs.pop("features_extractor_class", None)
        extractor = extractor or _default_extractor(observation_space)
        extractor_kwargs = dict(kwargs.pop("features_extractor_kwargs", None) or {})
        if issubclass(extractor, ImageLabelExtractor):
            extractor_kwargs.setdefault("features_dim", hidden_size)
        if kwargs.get("optimizer_class", torch.optim.Adam) is torch.optim.Adam:
            # All parameters in one call: they are small, and the calls took a tenth of the time.
            given = kwargs.pop("optimizer_kwargs", None) or {}
            kwargs["optimizer_kwargs"] = {"eps": 1e-5, "fused": True, **given}
        # Read while the constructor of the base class builds the policy.
        self._core_settings: dict[str, Any] = {
            "core": core,
            "hidden_size": hidden_size,
            "rule": rule,
            "cell": cell,
            "output_size": output_size,
            "core_kwargs": dict(core_kwargs or {}),
        }
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch={"pi": [64], "vf": [64]} if net_arch is None else net_arch,
            features_extractor_class=extractor,
            features_extractor_kwargs=extractor_kwargs,
            **kwargs,
        )
        self.has_statistics = any(
            isinstance(module, nn.modules.batchnorm._BatchNorm)
            for module in self.features_extractor.modules()
        )

    def _build_mlp_extractor(self) -> None:
        """Make the core, and the layers of actor and critic after it."""
        settings = dict(self._core_settings)
        core_kwargs = settings.pop("core_kwargs")
        if (
            isinstance(self.features_extractor, ImageLabelExtractor)
            and settings["core"] == "plastic"
        ):
            core_kwargs = {"encoded": True, **core_kwargs}
        core, hidden_size = settings.pop("core"), settings.pop("hidden_size")
        self.core = make_core(core, self.features_dim, hidden_size, **settings, **core_kwargs)
        self.mlp_extractor = MlpExtractor(
            self.core.output_size, self.net_arch, self.activation_fn, self.device
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | self._core_settings

    def train(self, mode: bool = True) -> Self:
        """Set training mode, except for the features extractor."""
        super().train(mode)
        self.features_extractor.eval()
        return self

    def initial_state(self, batch_size: int) -> State:
        """Return the core's state at the start of an episode."""
        return self.core.initial_state(batch_size)

    def forward(  # type: ignore[override]  # there is a state
        self, obs: Any, state: State, episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Act.

        Args:
            obs: Observations [B, …], or a dictionary of such.
            state: State of the core before the step.
            episode_starts: bool [B].
            deterministic: Take the most probable action.

        Returns:
            Actions [B, …], values [B], log-probabilities [B] and the state after the step.
        """
        output, state = self.core.step(self.extract_features(obs), state, episode_starts)
        distribution, values = self._heads(output)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        return actions.view(-1, *(self.action_space.shape or ())), values, log_prob, state

    def evaluate_actions(  # type: ignore[override]  # there is a state
        self, obs: Any, actions: Tensor, state: State, episode_starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Evaluate the actions of whole sequences.

        Args:
            obs: Observations [B, T, …], or a dictionary of such.
            actions: [B, T, …].
            state: State of the core before the first step.
            episode_starts: bool [B, T].

        Returns:
            Values, log-probabilities and entropy (None without a closed form), each [B, T].
        """
        batch, steps = episode_starts.shape
        features = self.extract_features(map_tree(lambda part: part.flatten(0, 1), obs))
        output = self._core_outputs(features.view(batch, steps, -1), state, episode_starts)  # type: ignore[union-attr]
        distribution, values = self._heads(output.flatten(0, 1))
        log_prob = distribution.log_prob(actions.flatten(0, 1))
        entropy = distribution.entropy()
        return (
            values.view(batch, steps),
            log_prob.view(batch, steps),
            None if entropy is None else entropy.view(batch, steps),
        )

    def predict_values(  # type: ignore[override]  # there is a state
        self, obs: Any, state: State, episode_starts: Tensor
    ) -> Tensor:
        """Return the values [B] of observations [B, …]."""
        output, _ = self.core.step(self.extract_features(obs), state, episode_starts)
        values: Tensor = self.value_net(self.mlp_extractor.forward_critic(output))
        return values.squeeze(1)

    def get_distribution(  # type: ignore[override]  # there is a state
        self, obs: Any, state: State, episode_starts: Tensor
    ) -> tuple[Distribution, State]:
        """Return the distribution of actions, and the state after the step."""
        output, state = self.core.step(self.extract_features(obs), state, episode_starts)
        return self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(output)), state

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: State = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State]:
        """Choose actions, as Stable-Baselines3's recurrent policies do.

        Args:
            observation: One observation, or a batch.
            state: What the call before returned, or a tree of tensors of that form; None at the
                start of all episodes.
            episode_start: bool [B], true where an episode starts and the state is reset.
            deterministic: Take the most probable action.

        Returns:
            Actions, and the state after the step: a tree of NumPy arrays.

        Raises:
            ValueError: If the observation is Gymnasium's pair of observation and info.
        """
        self.set_training_mode(False)
        if isinstance(observation, tuple):
            raise ValueError("observation is a tuple: did you pass what Gymnasium's reset returns?")
        obs, is_batch = self.obs_to_tensor(observation)
        batch = len(next(leaves(obs)))
        if state is None:
            state = self.initial_state(batch)
        starts = np.zeros(batch, np.bool_) if episode_start is None else np.asarray(episode_start)
        with torch.no_grad():
            distribution, state = self.get_distribution(
                obs,
                to_tensors(state, self.device),
                torch.as_tensor(starts.reshape(batch) > 0, device=self.device),
            )
            chosen = distribution.get_actions(deterministic=deterministic)
        actions = chosen.cpu().numpy().reshape(-1, *(self.action_space.shape or ()))
        if isinstance(self.action_space, spaces.Box):
            actions = np.clip(actions, self.action_space.low, self.action_space.high)
        return actions if is_batch else actions[0], to_arrays(state)

    def update_statistics(self, observations: Any) -> None:
        """Let the features extractor's batch statistics follow observations [B, T, …]."""
        self.features_extractor.train()
        with torch.no_grad():
            self.extract_features(map_tree(lambda part: part.flatten(0, 1), observations))
        self.features_extractor.eval()

    def _core_outputs(self, x: Tensor, state: State, episode_starts: Tensor) -> Tensor:
        """Return the core's outputs [B, T, …] for features [B, T, …]."""
        if hasattr(self.core, "outputs"):
            return self.core.outputs(x, state, episode_starts)  # type: ignore[no-any-return]
        outputs, _ = self.core(x, state, episode_starts)
        return outputs  # type: ignore[no-any-return]

    def _heads(self, output: Tensor) -> tuple[Distribution, Tensor]:
        """Return the distribution of actions and the values [N] for outputs [N, …] of the core."""
        latent_pi, latent_vf = self.mlp_extractor(output)
        values: Tensor = self.value_net(latent_vf)
        return self._get_action_dist_from_latent(latent_pi), values.squeeze(1)


def _default_extractor(space: spaces.Space[Any]) -> type[BaseFeaturesExtractor]:
    if has_image_and_label(space):
        return ImageLabelExtractor
    if isinstance(space, spaces.Dict):
        return CombinedExtractor
    return NatureCNN if is_image_space(space) else FlattenExtractor
