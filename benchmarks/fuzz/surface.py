"""What is public and takes arguments, found by looking at the packages."""

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

import agents.sb3
import plastic_envs
from plastic_envs import TaskVectorEnv
from train.reinforcement.config import RLConfig
from train.supervised.config import TrainConfig

MODULES = (
    *("plastic_envs", "plastic_envs.images", "plastic_envs.tasks", "plastic_envs.wrappers"),
    *("agents", "agents.sb3"),
)

# What makes a call valid: by the name of the argument, or by the callable and the name.
_COPY = "'plastic_envs.tasks.sequences.copy:Copy'"
_IMAGE = "gym.spaces.Box(0, 255, (16, 16, 1), np.uint8)"
_BOX = "gym.spaces.Box(-1, 1, (3,))"
VALID = {
    "input_size": "3",
    "output_size": "2",
    "hidden_size": "4",
    "num_labels": "3",
    "image_shape": "(16, 16, 1)",
    "image_encoder": "agents.Conv4((16, 16, 1), 2)",
    "env_id": "'PlasticCopy-v0'",
    "task": _COPY,
    "split": "'train'",
    "name": "'conv4'",
    "source": "'glyphs'",
    "labels": "[0, 0, 1, 1, 2, 2]",
    "names": "('a', 'b', 'c')",
    "images": "np.zeros((6, 8, 8), np.uint8)",
    "offsets": "np.array([0, 2, 4, 6])",
    "observation_space": _BOX,
    "action_space": "gym.spaces.Discrete(2)",
    "core": "'plastic'",
    **{f"{name}.core": "agents.make_core('mlp', 3)" for name in ("Encoded", "Readout")},
    "Encoded.encoder": "torch.nn.Linear(3, 3)",
    "lr_schedule": "lambda _: 1e-3",
    "policy": "'PlasticPolicy'",
    "buffer_size": "4",
    "module": "torch.nn.LSTM(3, 4, batch_first=True)",
    "env": "gym.make('PlasticCopy-v0')",
    "VectorHistory.env": "gym.make_vec('PlasticCopy-v0', 2)",
    "VectorPreviousActionReward.env": "gym.make_vec('PlasticCopy-v0', 2)",
    "VectorEnvAdapter.env": "gym.make_vec('PlasticCopy-v0', 2)",
    "ImageClasses.images": "np.zeros((6, 8, 8, 1), np.uint8)",
    **{f"{name}.source": "plastic_envs.images.Glyphs()" for name in ("load_images", "Rotated")},
    "LabelMemory.update": "agents.memories.updates.Mesa(2, 3, 1)",
    "ImageExtractor.observation_space": _IMAGE,
    "DictExtractor.observation_space": f"gym.spaces.Dict(image={_IMAGE}, label={_BOX})",
    "ImageLabelExtractor.observation_space": f"gym.spaces.Dict(image={_IMAGE}, label={_BOX})",
    "PlasticFeaturesExtractor.observation_space": "plastic_envs.wrappers.History("
    "gym.make('PlasticCopy-v0')).observation_space",
    **{f"{name}.filters": "2" for name in ("Conv4", "ResNet12", "make_encoder")},
    "RecurrentPPO.n_steps": "4",
    "RecurrentPPO.policy_kwargs": "{'hidden_size': 4}",
    "RecurrentPPO.seed": "0",
}


class Target(NamedTuple):
    """Something to call: an expression with a place for arguments, and what these may be."""

    call: str
    parameters: dict[str, inspect.Parameter]
    valid: dict[str, str]

    @property
    def unknown(self) -> list[str]:
        """Names of arguments that it needs, without a valid value that is known."""
        needed = [k for k, p in self.parameters.items() if p.default is p.empty or k == "root"]
        return [k for k in needed if k not in self.valid]


def targets() -> Iterator[Target]:
    """Find everything public that takes arguments."""
    for name, value in {f"{m}.{n}": v for m in MODULES for n, v in _public(m)}.items():
        parameters = _parameters(value)
        required = [k for k, p in parameters.items() if p.default is p.empty]
        known = {k: VALID[k] for k in required if k in VALID}
        own = f"{name.split('.')[-1]}."
        special = {k.removeprefix(own): text for k, text in VALID.items() if k.startswith(own)}
        yield Target(f"{name}({{}})", parameters, known | special)
    policy = _parameters(agents.sb3.PlasticPolicy).items()
    optional = {k: p for k, p in policy if p.default is not p.empty}
    env = "gym.make_vec('PlasticCopy-v0', 2)"
    ppo = f"agents.sb3.RecurrentPPO('PlasticPolicy', {env}, n_steps=4, policy_kwargs=dict({{}}))"
    yield Target(ppo, optional, {"hidden_size": "4"})
    for config in (TrainConfig, RLConfig):
        yield from _settings(config)
    vector = _parameters(TaskVectorEnv)
    vector = {k: vector[k] for k in ("num_envs", "autoreset_mode")}
    for env_id in plastic_envs.ids():
        fields = _parameters(type(plastic_envs.make_task(env_id)))
        yield Target(f"plastic_envs.make_task('{env_id}', {{}})", fields, {})
        yield Target(f"gym.make('{env_id}', {{}})", fields, {})
        yield Target(f"gym.make_vec('{env_id}', {{}})", fields | vector, {})


def _settings(config: type[Any]) -> Iterator[Target]:
    """Return how the settings of a program are made: as they are, from JSON, and in parts."""
    name, fields = f"{config.__module__}.{config.__name__}", _parameters(config)
    yield Target(f"{name}({{}})", fields, {})
    parts = {k: p for k, p in fields.items() if dataclasses.is_dataclass(p.annotation)}
    read = fields | {k: p.replace(annotation=p.annotation | dict) for k, p in parts.items()}
    yield Target(f"train.settings.from_dict({name}, dict({{}}))", read, {})
    for k, p in fields.items():
        if k in parts:
            part = f"{p.annotation.__module__}.{p.annotation.__name__}({{}})"
            yield Target(f"{name}({k}={part})", _parameters(p.annotation), {})


def _public(module: str) -> Iterator[tuple[str, Any]]:
    found = import_module(module)
    own = [k for k, value in vars(found).items() if getattr(value, "__module__", "") == module]
    for name in getattr(found, "__all__", own):
        value = getattr(found, name)
        is_code = inspect.isclass(value) or inspect.isfunction(value)
        checks_nothing = hasattr(value, "_fields") or getattr(value, "_is_protocol", False)
        if is_code and not checks_nothing and not inspect.isabstract(value) and name[0] != "_":
            yield name, value


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    """Return named parameters with their types, and what `**kwargs` is said to pass on."""
    found: dict[str, inspect.Parameter] = {}
    for owner in [function, *getattr(function, "__mro__", ())[1:-1]]:
        typed = owner if dataclasses.is_dataclass(owner) else getattr(owner, "__init__", owner)
        try:
            signature = inspect.signature(owner).parameters.values()
            hints = typing.get_type_hints(typed if inspect.isclass(owner) else owner)
        except (NameError, ValueError, TypeError):  # a base class of someone else's
            continue
        for p in signature:
            told = owner is function or f"`{p.name}`" in (function.__doc__ or "")
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and told and p.name[0] != "_":
                found.setdefault(p.name, p.replace(annotation=hints.get(p.name, Any)))
        if owner is function and not any(p.kind is p.VAR_KEYWORD for p in signature):
            break
    return found
