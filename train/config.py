"""Settings of a training run, and their file."""

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import torch
import tyro

from agents import PlasticNetwork
from agents.network import RULES, CellName, FormName, RuleName
from agents.rules import RuleSettings
from plastic_envs.tasks import Copy, CueReward, Regression, SequenceTask

TaskName = Literal["copy", "cue-reward", "regression"]

ENV_IDS: dict[TaskName, str] = {
    "copy": "PlasticCopy-v0",
    "cue-reward": "PlasticCueReward-v0",
    "regression": "PlasticRegression-v0",
}

_T = TypeVar("_T")


@dataclass(frozen=True)
class NetworkConfig:
    """The network to train."""

    rule: RuleName = "gradient"
    """Plasticity rule; "none" is the ordinary recurrent network."""
    cell: CellName = "rnn"
    """Recurrent cell."""
    hidden_size: int = 128
    """Hidden units. Equal size in the paper: 128 plastic LSTM, 256 plastic RNN, x1.5 without."""
    extra_dim: int = 4
    """Free readout units, the network's own target for the gradient rule."""
    form: FormName = "auto"
    """How sequences are computed; all forms agree."""
    plasticity: Annotated[RuleSettings, tyro.conf.arg(name="")] = field(
        default_factory=RuleSettings
    )

    def build(self, task: SequenceTask, seed: int) -> PlasticNetwork:
        """Make the network for a task, its initial parameters drawn from a seed."""
        return PlasticNetwork(
            input_size=task.observation_space.shape[0],
            output_size=task.action_space.shape[0],
            hidden_size=self.hidden_size,
            cell=self.cell,
            rule=RULES[self.rule](**asdict(self.plasticity)),
            extra_dim=self.extra_dim,
            form=self.form,
            generator=torch.Generator().manual_seed(seed),
        )


@dataclass(frozen=True)
class TrainConfig:
    """A supervised meta-training run.

    The defaults are the paper's (arXiv 2302.03235), but for a laptop's steps and hidden size.
    """

    task: TaskName = "cue-reward"
    """What to learn; its own settings are below."""
    network: Annotated[NetworkConfig, tyro.conf.arg(name="")] = field(default_factory=NetworkConfig)
    steps: int = 5_000
    """Training steps, one batch each."""
    batch_size: int = 64
    """Episodes of a batch."""
    learning_rate: float = 1e-3
    """Step size of AdamW (with amsgrad)."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW."""
    max_grad_norm: float = 5.0
    """Bound on the norm of the outer gradient."""
    loss_on: Literal["task", "scored", "all"] = "task"
    """Steps that the loss averages: the paper's choice for the task, the scored ones, or all."""
    eval_every: int = 100
    """Steps between validations; each one is logged and leaves a checkpoint."""
    eval_episodes: int = 1_000
    """Fixed validation episodes."""
    seed: int = 0
    """Seed of initial parameters and of the training, validation and test episodes."""
    threads: int | None = None
    """Threads of torch; its default if not given."""
    copy: Copy = field(default_factory=Copy)
    cue_reward: CueReward = field(default_factory=CueReward)
    regression: Regression = field(default_factory=Regression)

    def __post_init__(self) -> None:
        """Check what types do not say.

        Raises:
            ValueError: If a number is out of range, or another task than the chosen one is set.
        """
        for name in ("batch_size", "eval_every", "eval_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("steps", "seed", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.seed >= 2**63:
            raise ValueError(f"seed must be below 2**63, got {self.seed}")
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        if self.task not in ENV_IDS:
            raise ValueError(f"task must be one of {', '.join(ENV_IDS)}, got {self.task!r}")
        for name in ENV_IDS:
            settings = getattr(self, _field_of(name))
            if name != self.task and settings != type(settings)():
                raise ValueError(f"{settings} is set, but the task is {self.task!r}")

    @property
    def env_id(self) -> str:
        """Gymnasium id of the task."""
        return ENV_IDS[self.task]

    @property
    def task_definition(self) -> SequenceTask:
        """The chosen task with its settings."""
        task: SequenceTask = getattr(self, _field_of(self.task))
        return task

    @property
    def task_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the chosen task, for `gym.make`."""
        kwargs: dict[str, Any] = asdict(getattr(self, _field_of(self.task)))
        return kwargs

    @property
    def loss_steps(self) -> Literal["scored", "all"]:
        """Which steps the loss averages."""
        return self.task_definition.loss_steps if self.loss_on == "task" else self.loss_on

    def to_json(self) -> str:
        """Write the settings as JSON; other tasks' settings are left out."""
        data = asdict(self)
        for name in ENV_IDS:
            if name != self.task:
                del data[_field_of(name)]
        return json.dumps(data, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "TrainConfig":
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it is not JSON, or has settings that do not exist or do not fit.
        """
        return _from_dict(TrainConfig, json.loads(text))


def _field_of(task: str) -> str:
    return task.replace("-", "_")


def _from_dict(cls: type[_T], data: Any) -> _T:
    """Make a dataclass, with those in it, from what `dataclasses.asdict` returned."""
    if not isinstance(data, dict):
        raise ValueError(f"settings of {cls.__name__} must be an object, got {data!r}")
    made = {}
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    for name, value in data.items():
        if name not in known:
            raise ValueError(f"{cls.__name__} has no setting {name!r}")
        if is_dataclass(hints[name]):
            made[name] = _from_dict(hints[name], value)
        elif _fits(value, hints[name]):
            made[name] = value
        else:
            raise ValueError(f"{name} must be {_written(hints[name])}, got {value!r}")
    return cls(**made)


def _fits(value: Any, hint: Any) -> bool:
    """Say whether a value read from JSON is of a type as the settings use them."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_args(hint):
        return any(_fits(value, option) for option in get_args(hint))
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _written(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint)
