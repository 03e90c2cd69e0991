"""Settings of a training run, and their file."""

import json
import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
import tyro
from gymnasium import spaces

from agents import ImageLabelEncoder, PlasticNetwork, PrototypicalNetwork, make_encoder
from agents.plastic.network import RULES, CellName, FormName, RuleName
from agents.plastic.rules import RuleSettings
from agents.vision.encoders import EncoderName
from plastic_envs.checks import check_bool, check_choice, check_int, check_number, shown
from plastic_envs.images import Split
from plastic_envs.images.sources import SourceName
from plastic_envs.tasks import Copy, CueReward, FewShot, Regression, SequenceTask
from plastic_envs.tasks.few_shot import LabelMode, QuerySampling
from train.scoring.objectives import objective_of
from train.splits import task_for, task_kwargs

ModelName = Literal["plastic", "prototypical"]
TaskName = Literal["copy", "cue-reward", "few-shot", "regression"]
Network = PlasticNetwork | PrototypicalNetwork

ENV_IDS: dict[TaskName, str] = {
    "copy": "PlasticCopy-v0",
    "cue-reward": "PlasticCueReward-v0",
    "few-shot": "PlasticFewShot-v0",
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
    freeze_slow_weights: bool = False
    """Keep slow weights and biases as they were drawn: only plasticity is learned."""
    form: FormName = "auto"
    """How sequences are computed; all forms agree."""
    model: ModelName = "plastic"
    """A recurrent network as set above, or the prototypical network, for few-shot images."""
    encoder: EncoderName = "conv4"
    """What makes embeddings of images."""
    filters: int = 64
    """Filters of the encoder's first layer."""
    rectify: bool = False
    """Rectify the projected embedding of an image, as the published code does."""
    plasticity: Annotated[RuleSettings, tyro.conf.arg(name="")] = field(
        default_factory=RuleSettings
    )

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: If one is of the wrong type or out of range.
        """
        check_settings(self, **NETWORK_LIMITS, filters={"minimum": 1, "maximum": 2**12})

    def build(self, task: SequenceTask, seed: int) -> Network:
        """Make the network for a task, its initial parameters drawn from a seed."""
        generator = torch.Generator().manual_seed(seed)
        output_size = objective_of(task).output_size(task)
        encoder = None
        if isinstance(task, FewShot):
            shape = task.images.image_shape
            images = make_encoder(self.encoder, shape, self.filters, generator=generator)
            if self.model == "prototypical":
                return PrototypicalNetwork(
                    images, output_size, delayed=task.label_mode == "delayed"
                )
            encoder = ImageLabelEncoder(
                images, self.hidden_size, output_size, rectify=self.rectify, generator=generator
            )
        network = PlasticNetwork(
            input_size=spaces.flatdim(task.observation_space),
            output_size=output_size,
            hidden_size=self.hidden_size,
            cell=self.cell,
            rule=RULES[self.rule](**asdict(self.plasticity)),
            extra_dim=self.extra_dim,
            encoder=encoder,
            form=self.form,
            generator=generator,
        )
        if self.freeze_slow_weights:
            network.freeze_slow_weights()
        return network


@dataclass(frozen=True)
class FewShotConfig:
    """Few-shot images; the run takes the source's classes for training, validation and testing."""

    n_way: int = 5
    """Classes of an episode."""
    k_shot: int = 1
    """Labelled images of each class."""
    n_query: int = 5
    """Queries of an episode."""
    query_sampling: QuerySampling = "balanced"
    """Whether queries hold each class equally often (as in the paper), or each is independent."""
    source: SourceName = "glyphs"
    """Where the images come from; "glyphs" needs no data."""
    root: str | None = None
    """Folder or file of the data, for the other sources."""
    image_size: int | None = None
    """Height and width to which images of omniglot and of folders are resized; folders of images
    of different sizes need it."""
    label_mode: LabelMode = "with_image"
    """Whether a label comes with its image or a step later."""
    augment: bool = False
    """Change training images at random: for photographs."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: If one is of the wrong type or out of range.
        """
        least = {"n_way": 2, "k_shot": 1, "n_query": 1, "image_size": 1}
        check_settings(self, **{name: {"minimum": value} for name, value in least.items()})


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
    schedule: Literal["constant", "cosine"] = "constant"
    """Whether the step size stays, or falls to zero over the run along a cosine."""
    encoder_run: str | None = None
    """Start with the image encoder of this few-shot run, and keep it as it is."""
    fine_tune: bool = False
    """Go on training the encoder of `encoder_run`."""
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
    few_shot: Annotated[FewShotConfig, tyro.conf.arg(name="")] = field(
        default_factory=FewShotConfig
    )
    regression: Regression = field(default_factory=Regression)

    def __post_init__(self) -> None:
        """Check what types do not say.

        Raises:
            ValueError: If a setting is of the wrong type or out of range, or another task than the
                chosen one is set.
        """
        positive, at_least_0 = {"above": 0}, {"minimum": 0}
        check_settings(
            self,
            eval_every={"minimum": 1},
            **{key: {"minimum": 1, "maximum": 2**20} for key in ("batch_size", "eval_episodes")},
            **dict.fromkeys(("learning_rate", "max_grad_norm"), positive),
            weight_decay=at_least_0,
            **RUN_LIMITS,
        )
        if self.network.freeze_slow_weights and (
            self.network.rule == "none" or self.network.model == "prototypical"
        ):
            raise ValueError(
                "freeze_slow_weights leaves a network without plastic weights nothing to learn"
            )
        for name in ENV_IDS:
            settings = getattr(self, _field_of(name))
            if name != self.task and settings != type(settings)():
                changed = _changed(settings)
                raise ValueError(f"{changed} of {name} is set, but the task is {self.task!r}")
        self._check_image_settings()

    def _check_image_settings(self) -> None:
        if self.task != "few-shot":
            for name in ("model", "encoder", "filters", "rectify"):
                value = getattr(self.network, name)
                if value != getattr(NetworkConfig, name):
                    raise ValueError(f"{name}={shown(value)} is set, but the task has no images")
            if self.encoder_run is not None:
                raise ValueError(
                    f"encoder_run={shown(self.encoder_run)}, but the task has no images"
                )
        if self.fine_tune and self.encoder_run is None:
            raise ValueError(
                "fine_tune (--fine-tune) goes on training the encoder of another run: give that "
                "run as encoder_run (--encoder-run)"
            )
        if self.frozen and self.few_shot.augment:
            raise ValueError(
                "with encoder_run (--encoder-run) the encoder is frozen and sees each image once, "
                "as it is: augment (--augment) needs fine_tune (--fine-tune)"
            )
        if self.frozen and self.network.model == "prototypical":
            raise ValueError("a prototypical network with a frozen encoder has nothing to train")

    @property
    def env_id(self) -> str:
        """Gymnasium id of the task."""
        return ENV_IDS[self.task]

    @property
    def total_steps(self) -> int:
        """Steps of the run."""
        return self.steps

    @property
    def name(self) -> str:
        """A name for the run, `TASK-RULE-CELL-HIDDEN-seedN`."""
        network = self.network
        words = f"{network.rule}-{network.cell}-{network.hidden_size}"
        if network.model == "prototypical":
            words = f"prototypical-{network.encoder}-{network.filters}"
        return f"{self.task}-{words}-seed{self.seed}"

    @property
    def frozen(self) -> bool:
        """Whether an image encoder was trained before and stays as it is."""
        return self.encoder_run is not None and not self.fine_tune

    def task_for(self, split: Split) -> SequenceTask:
        """Return the chosen task with its settings, with the classes of a split."""
        task: SequenceTask = getattr(self, _field_of(self.task))
        if isinstance(task, FewShotConfig):
            given = {name: value for name, value in asdict(task).items() if value is not None}
            task = FewShot(**given, split=split)
        return task_for(task, split)

    def task_kwargs(self, split: Split) -> dict[str, Any]:
        """Return the keyword arguments of that task, for `gym.make`."""
        return task_kwargs(self.task_for(split))

    @property
    def is_constant(self) -> bool:
        """Whether the step size does not depend on how many steps there are."""
        return self.schedule == "constant"

    def validates_at(self, step: int) -> bool:
        """Say whether there is a validation at a step, even if the run does not end there."""
        return step % self.eval_every == 0

    @property
    def loss_steps(self) -> Literal["scored", "all"]:
        """Which steps the loss averages."""
        if self.loss_on != "task":
            return self.loss_on
        return self.task_for("train").loss_steps

    def learning_rate_at(self, step: int) -> float:
        """Return the step size of a training step."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * step / self.steps)) / 2

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
        return from_dict(TrainConfig, read_settings(text))


def _changed(settings: Any) -> str:
    """Return what differs from the defaults, as `name=value, …`."""
    values, defaults = asdict(settings), asdict(type(settings)())
    return ", ".join(f"{k}={shown(v)}" for k, v in values.items() if v != defaults[k])


def _field_of(task: str) -> str:
    return task.replace("-", "_")


RUN_LIMITS: dict[str, dict[str, Any]] = {
    "steps": {"minimum": 0},
    "seed": {"minimum": 0, "maximum": 2**63 - 1},
    "threads": {"minimum": 1, "maximum": 1024},
}
"""Bounds of what every run is told."""

NETWORK_LIMITS: dict[str, dict[str, Any]] = {
    "hidden_size": {"minimum": 1, "maximum": 2**14},
    "extra_dim": {"minimum": 0, "maximum": 2**14},
}
"""Bounds of sizes, with which the parameters still fit into the memory of a large machine."""


def check_settings(settings: Any, **limits: dict[str, Any]) -> None:
    """Check that settings are of the types that they are declared with, and within bounds.

    NumPy's numbers become Python's.

    Args:
        settings: A frozen dataclass.
        **limits: Arguments of `check_int` or `check_number` for a setting, by its name.

    Raises:
        ValueError: If one is not.
    """
    hints = get_type_hints(type(settings))
    for name, hint in hints.items():
        value = getattr(settings, name)
        if value is None and type(None) in get_args(hint):
            continue
        options = [option for option in get_args(hint) if option is not type(None)]
        if get_origin(hint) in (Union, UnionType) and len(options) == 1:
            hint = options[0]
        value = _checked(name, value, hint, limits.get(name, {}))
        object.__setattr__(settings, name, value)


def _checked(name: str, value: Any, hint: Any, limits: dict[str, Any]) -> Any:
    if hint is int:
        return check_int(name, value, **limits)
    if hint is float:
        return check_number(name, value, **limits)
    if hint is bool:
        return check_bool(name, value)
    if get_origin(hint) is Literal:
        return check_choice(name, value, get_args(hint))
    if not _fits(value, hint):
        raise ValueError(f"{name} must be {_written(hint)}, got {shown(value)}")
    return value


def read_settings(text: str) -> Any:
    """Read JSON, in which there are neither infinite numbers nor such that are none.

    Raises:
        ValueError: If it is not JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def from_dict(cls: type[_T], data: Any, place: str = "") -> _T:
    """Make a dataclass, with those in it, from what `dataclasses.asdict` returned.

    Args:
        cls: The dataclass, which checks its settings.
        data: The settings by their names.
        place: What they are a part of, for errors.

    Raises:
        ValueError: If there is no such setting, or one does not fit.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{place}settings of {cls.__name__} must be an object, got {shown(data)}")
    made = {}
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    for name, value in data.items():
        if name not in known:
            raise ValueError(f"{place}{cls.__name__} has no setting {shown(name)}")
        nested = is_dataclass(hints[name])
        made[name] = from_dict(hints[name], value, f"{name}: ") if nested else value
    return cls(**made)


def _fits(value: Any, hint: Any) -> bool:
    """Say whether a value read from JSON is of a type as the settings use them."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is dict:
        _, values = get_args(hint)
        return isinstance(value, dict) and all(
            isinstance(name, str) and _fits(part, values) for name, part in value.items()
        )
    if get_args(hint):
        return any(_fits(value, option) for option in get_args(hint))
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if hint is float:
        return isinstance(value, int | float) and -math.inf < value < math.inf
    return isinstance(value, hint)


def _written(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
