"""Settings of a supervised training run, and their file."""

import json
import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import gymnasium as gym
import tyro
from gymnasium.vector import VectorEnv

from plastic_envs.images import Split
from plastic_envs.tasks import SequenceTask
from plastic_envs.vector_env import TaskVectorEnv
from train.names import DeviceName
from train.network import NetworkConfig
from train.parts import Part, find_task
from train.seeds import Supervised, derived_seed
from train.settings import FORMAT, RUN_LIMITS, check_settings, from_dict, read_run
from train.splits import task_for, task_kwargs


@dataclass(frozen=True)
class TrainConfig:
    """A supervised meta-training run.

    The defaults are the paper's (arXiv 2302.03235), but for a laptop's steps and hidden size.

    Raises:
        ValueError: If a setting is of the wrong type or out of range, or there is no such part.
    """

    task: str = "cue-reward"
    """What to learn: a short name, a Gymnasium id, or module:Class of a task of your own."""
    task_settings: dict[str, Any] = field(default_factory=dict)
    """Its own settings, completed with its defaults."""
    test_settings: dict[str, Any] = field(default_factory=dict)
    """Those in which the task of test episodes differs."""
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
    """Start with the image encoder of this run, and keep it as it is."""
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
    device: DeviceName = "auto"
    """Where to compute; "auto" takes a GPU if there is one."""

    def __post_init__(self) -> None:
        """Check the settings, and complete those of the task."""
        check_settings(
            self,
            eval_every={"minimum": 1},
            **{key: {"minimum": 1, "maximum": 2**20} for key in ("batch_size", "eval_episodes")},
            **{key: {"above": 0} for key in ("learning_rate", "max_grad_norm")},
            weight_decay={"minimum": 0},
            **RUN_LIMITS,
        )
        settings = self.task_part.complete(self.task_settings)
        object.__setattr__(self, "task_settings", settings)
        tested = self.task_part.complete({**settings, **self.test_settings})
        differs = {name: tested[name] for name in self.test_settings}
        object.__setattr__(self, "test_settings", differs)
        check_gives_episodes(self.task_part)
        self.network.check_device(self.device)
        if self.fine_tune and self.encoder_run is None:
            raise ValueError(
                "fine_tune (--fine-tune) goes on training the encoder of another run: give that "
                "run as encoder_run (--encoder-run)"
            )
        for name in ("augment", "distort"):
            if self.frozen and settings.get(name):
                raise ValueError(
                    "with encoder_run (--encoder-run) the encoder is frozen and sees each image "
                    f"once, as it is: {name} (--{name}) needs fine_tune (--fine-tune)"
                )

    @cached_property
    def task_part(self) -> Part:
        """The task that is named, which is not made yet."""
        return find_task(self.task)

    @property
    def name(self) -> str:
        """A name for the run, `TASK-RULE-CELL-HIDDEN-seedN`, or with another core's name."""
        return f"{self.task_part.title}-{self.network.name}-seed{self.seed}"

    @property
    def total_steps(self) -> int:
        """Steps of the run."""
        return self.steps

    @property
    def frozen(self) -> bool:
        """Whether an image encoder was trained before and stays as it is."""
        return self.encoder_run is not None and not self.fine_tune

    def task_for(self, split: Split) -> SequenceTask:
        """Make the task with its settings, with the classes of a split.

        Raises:
            ValueError: If a setting is out of range, or its data cannot be read.
        """
        settings = self.task_settings
        if split == "test":
            settings = {**settings, **self.test_settings}
        task: SequenceTask = self.task_part.make(settings, split=split)
        return task_for(task, split)

    def make_vec(self, num_envs: int, split: Split) -> VectorEnv[Any, Any, Any]:
        """Make environments of the task, with the classes of a split."""
        task = self.task_for(split)
        if (env_id := self.task_part.env_id) is not None:
            return gym.make_vec(env_id, num_envs=num_envs, **task_kwargs(task))
        return TaskVectorEnv(task, num_envs=num_envs)

    @property
    def test_seed(self) -> int:
        """Environment seed of the test episodes, which training never sees."""
        return derived_seed(self.seed, Supervised.TEST)

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
        steps: Literal["scored", "all"] = self.task_part.factory.loss_steps
        return steps

    def learning_rate_at(self, step: int) -> float:
        """Return the step size of a training step."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * step / self.steps)) / 2

    def to_json(self) -> str:
        """Write the settings as JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "TrainConfig":
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it is not JSON, or has settings that do not exist or do not fit.
        """
        return from_dict(TrainConfig, read_run(text))


def check_gives_episodes(task: Part) -> Part:
    """Return a task that gives whole episodes, from which a network can be trained.

    Raises:
        ValueError: If it does not.
    """
    if not hasattr(task.factory, "sample_episodes"):
        raise ValueError(
            f"task {task.name} answers to actions, and can be learned by reinforcement alone: "
            f"plastic train-rl --env {task.env_id or task.name}"
        )
    return task
