"""`PlasticPolicy`: actor and critic on top of one recurrent core."""

import inspect
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    FlattenExtractor,
    MlpExtractor,
)
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.core import Factory, core_takes, make_core, outputs_of
from agents.plastic.cells import Cell
from agents.plastic.rules import Rule
from agents.sb3.actions import actions_to_take, check_action_space, first_action, sampled_space
from agents.sb3.core_options import HIDDEN_SIZE, gathered
from agents.sb3.extractor import (
    DictExtractor,
    ImageExtractor,
    ImageLabelExtractor,
)
from agents.sb3.observations import check_observation_space, is_image
from agents.tree import leaves, map_tree, to_arrays
from plastic_envs.checks import check_bool, check_int, check_number, shown

State = Any
"""State of a core: a tree of tensors [B, …]."""


class PlasticPolicy(ActorCriticPolicy):
    """A policy that remembers: features extractor → recurrent core → actor and critic.

    Features extractor and core are shared by actor and critic, each of which has its own small
    network (`net_arch`) on the core's output. The features extractor sees one observation at a
    time and always works as in evaluation, so that an action has the same probability in training
    as when it was taken; its batch statistics move between updates (`update_statistics`).

    Args:
        observation_space: Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of these.
            `{"image": …, "label": …}` goes through `ImageLabelExtractor`, other dictionaries
            through `DictExtractor`, images through `ImageExtractor`, everything else is flattened;
            or `features_extractor_class`.
        action_space: Bounded Box, Discrete, MultiDiscrete or MultiBinary. Actions are those of the
            environment everywhere, but for those of a Box, which are cut off at its bounds (and
            rounded, if it holds integers) just before they are taken.
        lr_schedule: Learning rate by the remaining progress.
        core: `"plastic"`, `"lstm"`, `"gru"`, `"rnn"`, `"mlp"` (no memory), an associative memory
            (`"mesa"`, `"attention"`, …), `"module:name"`, or a function that makes one, as for
            `agents.make_core`.
        hidden_size: Units of the core, 64 by default, if it has them.
        rule: Plasticity rule of a core that has one: `"gradient"` (the default), `"hebbian"`,
            `"none"`, …, or an `agents.Rule`.
        cell: Cell of a core that has one: `"rnn"` (the default), `"lstm"`, …, or an `agents.Cell`.
        output_size: Outputs of the core. Those of a plastic core are 32 by default; they are
            plastic, and with them go as many more fast weights. Others have as many as they make,
            by default; else a linear readout.
        core_kwargs: Further options of the core, such as `extra_dim`, `num_layers` or `key_size`.
        net_arch: Layers of actor and critic after the core, as Stable-Baselines3 writes them; one
            of 64 units each by default.
        **kwargs: Passed on to `ActorCriticPolicy`: `activation_fn`, `ortho_init`, `log_std_init`,
            `features_extractor_class`, `optimizer_class`, …

    Attributes:
        core: The `agents.Core`.
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
        core: str | Factory = "plastic",
        hidden_size: int | None = None,
        rule: str | Rule | None = None,
        cell: str | Cell | None = None,
        output_size: int | None = None,
        core_kwargs: dict[str, Any] | None = None,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        check_observation_space(observation_space)
        check_action_space(action_space)
        if not callable(lr_schedule):
            raise ValueError(
                "lr_schedule must be a function of the remaining progress, got "
                f"{shown(lr_schedule)}"
            )
        core_kwargs = _check_mapping("core_kwargs", core_kwargs)
        options = gathered(core, hidden_size, rule, cell, core_kwargs)
        if net_arch is None:
            net_arch = {"pi": [64], "vf": [64]}
        _check_layers(net_arch)
        _check_settings(kwargs)
        features = options.get("hidden_size", HIDDEN_SIZE)
        default = _default_extractor(observation_space, features)
        extractor = kwargs.pop("features_extractor_class", default)
        if not (isinstance(extractor, type) and issubclass(extractor, BaseFeaturesExtractor)):
            raise ValueError(
                "features_extractor_class must be a subclass of Stable-Baselines3's "
                f"BaseFeaturesExtractor, got {shown(extractor)}"
            )
        given = kwargs.pop("features_extractor_kwargs", None)
        extractor_kwargs = _check_mapping("features_extractor_kwargs", given)
        if issubclass(extractor, ImageLabelExtractor):
            extractor_kwargs.setdefault("features_dim", features)
        check_taken("features_extractor_kwargs", extractor, extractor_kwargs)
        if kwargs.get("optimizer_class", torch.optim.Adam) is torch.optim.Adam:
            # All parameters in one call: they are small, and the calls took a tenth of the time.
            given = _check_mapping("optimizer_kwargs", kwargs.pop("optimizer_kwargs", None))
            kwargs["optimizer_kwargs"] = {"eps": 1e-5, "fused": True, **given}
        check_taken(
            "optimizer_kwargs",
            kwargs.get("optimizer_class", torch.optim.Adam),
            _check_mapping("optimizer_kwargs", kwargs.get("optimizer_kwargs")),
        )
        # Read while the constructor of the base class builds the policy.
        self._core_settings: dict[str, Any] = {
            "core": core,
            "output_size": output_size,
            "core_kwargs": options,
        }
        super().__init__(
            observation_space,
            sampled_space(action_space),
            lr_schedule,
            net_arch=net_arch,
            features_extractor_class=extractor,
            features_extractor_kwargs=extractor_kwargs,
            **kwargs,
        )
        self.action_space = action_space
        first = first_action(action_space)
        self._first: Tensor | None
        self.register_buffer(
            "_first", None if first is None else torch.as_tensor(first), persistent=False
        )
        self.has_statistics = any(
            isinstance(module, nn.modules.batchnorm._BatchNorm)
            for module in self.features_extractor.modules()
        )

    def _build_mlp_extractor(self) -> None:
        """Make the core, and the layers of actor and critic after it."""
        core, output_size, options = self._core_settings.values()
        encoded = isinstance(self.features_extractor, ImageLabelExtractor)
        self.core = make_core(
            core,
            int(self.features_dim),
            output_size=output_size,
            encoder=nn.Identity() if encoded and core_takes(core, "encoder") else None,
            **options,
        )
        self.mlp_extractor = MlpExtractor(
            self.core.output_size, self.net_arch, self.activation_fn, self.device
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        given = super()._get_constructor_parameters()
        for name in ("squash_output", "full_std", "use_expln"):  # None without use_sde=True
            del given[name]
        return given | self._core_settings

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
        return self._of_environment(actions), values, log_prob, state

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
        output = outputs_of(self.core, features.view(batch, steps, -1), state, episode_starts)  # type: ignore[union-attr]
        distribution, values = self._heads(output.flatten(0, 1))
        log_prob = distribution.log_prob(self._of_distribution(actions.flatten(0, 1)))
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
        """Return the distribution of actions (one axis, counted from 0), and the next state."""
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
            ValueError: If the observation is Gymnasium's pair of observation and info, or anything
                has another shape than the observation asks for.
        """
        self.set_training_mode(False)
        deterministic = check_bool("deterministic", deterministic)
        if isinstance(observation, tuple):
            raise ValueError("observation is a tuple: did you pass what Gymnasium's reset returns?")
        self._check_names(observation)
        obs, is_batch = self.obs_to_tensor(observation)
        batch = len(next(leaves(obs)))
        starts = np.zeros(batch, np.bool_) if episode_start is None else np.asarray(episode_start)
        if starts.size != batch or starts.dtype.kind not in "biuf":
            raise ValueError(
                f"episode_start must be bool [{batch}], as observation is a batch of {batch}, got "
                f"{shown(episode_start)}"
            )
        with torch.no_grad():
            distribution, state = self.get_distribution(
                obs,
                self._checked_state(state, batch),
                torch.as_tensor(starts.reshape(batch) > 0, device=self.device),
            )
            chosen = self._of_environment(distribution.get_actions(deterministic=deterministic))
        actions = actions_to_take(chosen.cpu().numpy(), self.action_space)
        if not is_batch:  # an array even if it has no axis, but of a Discrete space a number
            actions = actions[0, ...] if isinstance(self.action_space, spaces.Box) else actions[0]
        return actions, to_arrays(state)

    def _check_names(self, observation: Any) -> None:
        space = self.observation_space
        if not isinstance(space, spaces.Dict):
            return
        if not isinstance(observation, dict) or observation.keys() != space.spaces.keys():
            raise ValueError(
                f"observation must be a dictionary of {', '.join(map(repr, space.spaces))}, got "
                f"{shown(list(observation) if isinstance(observation, dict) else observation)}"
            )

    def _checked_state(self, state: State, batch: int) -> State:
        """Return a state of so many samples as the core's own tree of tensors, copied."""
        if state is None:
            return self.initial_state(batch)
        template = self.initial_state(1)
        shapes = [[batch, *form.shape[1:]] for form in leaves(template)]
        try:
            given = [torch.as_tensor(leaf) for leaf in leaves(to_arrays(state))]
        except (TypeError, ValueError):
            given = []
        if [list(leaf.shape) for leaf in given] != shapes:
            raise ValueError(
                f"state must be what predict returned for a batch of {batch}: arrays {shapes}, got "
                f"{shown([list(leaf.shape) for leaf in given] or state)}"
            )
        rest = iter(given)
        return map_tree(lambda form: next(rest).to(form), template)

    def update_statistics(self, observations: Any, valid: Tensor | None = None) -> None:
        """Let the features extractor's batch statistics follow observations [B, T, …].

        Args:
            observations: What the agent saw.
            valid: bool [B, T], false at steps to leave out; None for none.
        """

        def chosen(part: Tensor) -> Tensor:
            return part.flatten(0, 1) if valid is None else part[valid]

        self.features_extractor.train()
        with torch.no_grad():
            self.extract_features(map_tree(chosen, observations))
        self.features_extractor.eval()

    def _of_environment(self, samples: Tensor) -> Tensor:
        """Return samples of the distribution as actions [N, …] of the environment."""
        if self._first is not None:
            samples = samples + self._first
        return samples.view(-1, *(self.action_space.shape or ()))

    def _of_distribution(self, actions: Tensor) -> Tensor:
        """Return actions [N, …] of the environment as samples of the distribution."""
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.flatten()
        else:
            actions = actions.flatten(1)
        return actions if self._first is None else actions - self._first

    def _heads(self, output: Tensor) -> tuple[Distribution, Tensor]:
        """Return the distribution of actions and the values [N] for outputs [N, …] of the core."""
        latent_pi, latent_vf = self.mlp_extractor(output)
        values: Tensor = self.value_net(latent_vf)
        return self._get_action_dist_from_latent(latent_pi), values.squeeze(1)


def _default_extractor(space: spaces.Space[Any], hidden_size: int) -> type[BaseFeaturesExtractor]:
    if ImageLabelExtractor.fits(space, hidden_size):
        return ImageLabelExtractor
    if isinstance(space, spaces.Dict):
        return DictExtractor
    return ImageExtractor if is_image(space) else FlattenExtractor


def _check_settings(kwargs: dict[str, Any]) -> None:
    """Check the arguments of `ActorCriticPolicy` that would fail late, or not at all."""
    refused = {
        "use_sde": (False, "its noise would be a hidden state"),
        "squash_output": (False, "it belongs to use_sde=True"),
        "share_features_extractor": (True, "there is one core"),
    }
    for name, (only, reason) in refused.items():
        if check_bool(name, kwargs.get(name, only)) is not only:
            raise ValueError(f"{name}={not only} is not supported: {reason}")
    for name in ("ortho_init", "full_std", "use_expln", "normalize_images"):
        if name in kwargs:
            kwargs[name] = check_bool(name, kwargs[name])
    if "log_std_init" in kwargs:
        kwargs["log_std_init"] = check_number("log_std_init", kwargs["log_std_init"])
    for name, kind in {
        "activation_fn": nn.Module,
        "optimizer_class": torch.optim.Optimizer,
    }.items():
        value = kwargs.get(name, kind)
        is_other = isinstance(value, type) and not issubclass(value, kind)
        if not callable(value) or is_other or isinstance(value, nn.Module | torch.optim.Optimizer):
            raise ValueError(f"{name} must be a class of {kind.__name__}s, got {shown(value)}")


def _check_mapping(name: str, value: Any) -> dict[str, Any]:
    """Return a dictionary of its own; an empty one for None."""
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name} must be a dictionary, or None, got {shown(value)}")
    return dict(value or {})


def check_taken(name: str, function: Any, given: dict[str, Any]) -> None:
    """Check that a function knows arguments, as far as it says which it takes."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind_partial(**given)
    except TypeError as error:
        raise TypeError(f"{name} do not fit {shown(function)}: {error}") from error


def _check_layers(net_arch: Any) -> None:
    parts = net_arch if isinstance(net_arch, dict) else {"": net_arch}
    if not set(parts) <= {"", "pi", "vf"} or not all(
        isinstance(sizes, list | tuple) for sizes in parts.values()
    ):
        raise ValueError(
            "net_arch must be a list of layer sizes, or a dictionary of such for 'pi' and 'vf', "
            f"got {shown(net_arch)}"
        )
    for sizes in parts.values():
        for size in sizes:
            check_int("a layer size of net_arch", size, minimum=1)
