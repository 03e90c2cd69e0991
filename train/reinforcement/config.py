"""Settings of a reinforcement learning run, and their file."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import gymnasium as gym
import tyro
from gymnasium.vector import VectorEnv

from plastic_envs import make_task
from plastic_envs.images import Split
from plastic_envs.registration import load_task
from plastic_envs.tasks import Task
from plastic_envs.vector_env import TaskVectorEnv
from train.names import DeviceName
from train.network import NetworkConfig
from train.parts import Part, find_env
from train.seeds import Reinforcement, derived_seed
from train.settings import FORMAT, RUN_LIMITS, check_settings, from_dict, read_run
from train.splits import split_kwargs, task_for

_KIND = "reinforcement"
_ROLLOUT = 128  # steps that a rollout has at least
_RESERVED = (  # arguments of gym.make_vec, and the picture's
    *("num_envs", "vectorization_mode", "vector_kwargs", "wrappers", "autoreset_mode"),
    "render_mode",
)


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation, by Stable-Baselines3's names."""

    n_steps: int | None = None
    """Steps of each environment in a rollout; whole episodes of our tasks, 128 steps or more."""
    minibatches: int = 4
    """Largest number of minibatches in an epoch: each has num_envs / minibatches whole
    environments, rounded up, and the last one what is left."""
    n_epochs: int = 4
    """Times that an update goes through the rollout."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    schedule: Literal["constant", "linear"] = "linear"
    """Whether the step size stays, or falls over the run, at each evaluation, towards zero."""
    gamma: float = 0.95
    """Discount factor of rewards to come."""
    gae_lambda: float = 0.9
    """λ of the generalised advantage estimate."""
    clip_range: float = 0.2
    """Bound on the change of the probability ratio."""
    ent_coef: float = 0.01
    """Weight of the entropy of the actions."""
    vf_coef: float = 0.5
    """Weight of the values' loss."""
    max_grad_norm: float = 0.5
    """Bound on the norm of the gradient."""
    log_std_init: float = 0.0
    """Logarithm of the first standard deviation of real actions."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: If one is of the wrong type or out of range.
        """
        check_settings(
            self,
            n_steps={"minimum": 2, "maximum": 2**20},
            **{key: {"minimum": 1} for key in ("minibatches", "n_epochs")},
            **{key: {"above": 0} for key in ("learning_rate", "clip_range", "max_grad_norm")},
            **{key: {"minimum": 0, "maximum": 1} for key in ("gamma", "gae_lambda")},
            **{key: {"minimum": 0} for key in ("ent_coef", "vf_coef")},
        )


@dataclass(frozen=True)
class RLConfig:
    """A run of reinforcement learning, on any Gymnasium environment."""

    env: str = "PlasticBandit-v0"
    """Gymnasium id, also module:Id-v0 of a module that registers it; or a task as for plastic
    train: a short name such as bandit, or module:Class of a task of your own."""
    env_kwargs: dict[str, int | float | bool | str] = field(default_factory=dict)
    """Arguments of the environment, such as: num_arms 10 num_trials 50."""
    previous_action_reward: bool = True
    """Show the agent its last action and reward with every observation."""
    network: Annotated[NetworkConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: NetworkConfig(rule="hebbian", core_settings={"hidden_size": 64})
    )
    ppo: Annotated[PPOConfig, tyro.conf.arg(name="")] = field(default_factory=PPOConfig)
    start_from: str | None = None
    """Start with the parameters of the best agent of this run, as after an easier lesson."""
    steps: int = 1_000_000
    """Environment steps, all environments together; the run ends with the first rollout
    (n_steps of num_envs environments) that reaches them."""
    num_envs: int = 64
    """Environments side by side."""
    eval_every: int = 50_000
    """Environment steps between evaluations: there is one after the first rollout that reaches a
    multiple of them, and one at the end."""
    eval_episodes: int = 256
    """Episodes of an evaluation, always the same ones."""
    eval_max_steps: int | None = None
    """Steps after which an episode of an evaluation is cut off; by default as many as the
    environment itself allows, or 10,000 where it names no limit."""
    deterministic: bool | None = None
    """Evaluate the most probable actions instead of drawing them; by default where they are
    real."""
    seed: int = 0
    """Seed of initial parameters, environments and actions."""
    threads: int | None = None
    """Threads of torch; its default if not given."""
    device: DeviceName = "auto"
    """Where to compute; "auto" takes a GPU if there is one."""

    def __post_init__(self) -> None:
        """Check what types do not say.

        Raises:
            ValueError: If a setting is of the wrong type or out of range.
        """
        check_settings(
            self,
            num_envs={"minimum": 1, "maximum": 2**16},
            eval_every={"minimum": 1},
            eval_episodes={"minimum": 2, "maximum": 2**20},
            eval_max_steps={"minimum": 1},
            **RUN_LIMITS | {"steps": {"minimum": 1}},
        )
        self.network.check_device(self.device)
        for name in _RESERVED:
            self._leave_to_programs(name)
        minibatches = self.ppo.minibatches
        if minibatches > self.num_envs:
            raise ValueError(
                f"minibatches are whole environments: at most num_envs={self.num_envs} of them, "
                f"got {minibatches}"
            )

    @property
    def name(self) -> str:
        """A name for the run, `ENV-AGENT-seedN`."""
        return f"{self.env.split(':')[-1]}-{self.agent}-seed{self.seed}"

    @property
    def agent(self) -> str:
        """A name for the agent, its network and whether it sees the observation alone."""
        return self.network.name + ("" if self.previous_action_reward else "-observation-only")

    @cached_property
    def task(self) -> Task | None:
        """The task behind the id, or None if the environment is not one of ours.

        Raises:
            ValueError: If `env_kwargs` do not fit.
        """
        if self.env_part is None:
            return None
        self._leave_to_programs("split")
        try:
            if self.env_part.env_id is not None:
                return make_task(self.env_part.env_id, **self.env_kwargs)
            return load_task(self.env_part.factory, **self.env_kwargs)
        except TypeError as error:
            raise ValueError(f"env_kwargs do not fit {self.env}: {error}") from error

    def task_for(self, split: Split) -> Task | None:
        """Return the task with the classes of a split, or None if it is not one of ours."""
        return None if self.task is None else task_for(self.task, split)

    def env_kwargs_for(self, split: Split) -> dict[str, Any]:
        """Return the arguments of the environment that make it play a split, if it is ours."""
        task = self.task
        return self.env_kwargs | ({} if task is None else split_kwargs(task, split))

    @cached_property
    def env_part(self) -> Part | None:
        """What that task is made of, if there is one; a module that it names is imported."""
        with suppress(ValueError):  # making the environment says what it is
            return find_env(self.env)
        return None

    def make_vec(self, num_envs: int, split: Split, **kwargs: Any) -> VectorEnv[Any, Any, Any]:
        """Make environments, of a task with the classes of a split, as `gym.make_vec` does.

        Raises:
            ValueError: If there are no such environments. Others raise what they like.
        """
        part, kwargs = find_env(self.env), {**kwargs, **self.env_kwargs_for(split)}
        if part is None:
            return gym.make_vec(self.env, num_envs=num_envs, **kwargs)
        if part.env_id is None:
            return TaskVectorEnv(part.factory, num_envs, **kwargs)
        return gym.make_vec(part.env_id, num_envs=num_envs, **kwargs)

    def _leave_to_programs(self, name: str) -> None:
        if name in self.env_kwargs:
            raise ValueError(f"env_kwargs cannot set {name}: the programs do, each as it needs")

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is better: not where the score is an error."""
        return self.task is None or self.task.higher_is_better

    @property
    def n_steps(self) -> int:
        """Steps of each environment in a rollout: whole episodes, if their length is known."""
        if self.ppo.n_steps is not None:
            return self.ppo.n_steps
        length = 1 if self.task is None else self.task.num_steps
        return -(-_ROLLOUT // length) * length

    @property
    def steps_per_rollout(self) -> int:
        """Steps of all environments in a rollout."""
        return self.n_steps * self.num_envs

    @property
    def total_steps(self) -> int:
        """Steps of the run: those that were asked for, rounded up to whole rollouts."""
        return -(-self.steps // self.steps_per_rollout) * self.steps_per_rollout

    def validates_at(self, step: int) -> bool:
        """Say whether there is an evaluation at a step, even if the run does not end there.

        There is one at the end of the first rollout at or after each multiple of `eval_every`.
        """
        before = step - self.steps_per_rollout
        return step == 0 or step // self.eval_every > before // self.eval_every

    def next_evaluation(self, step: int) -> int:
        """Return the step of the first evaluation after a step, at most that of the run's end."""
        beat = (step // self.eval_every + 1) * self.eval_every
        rounded = -(-beat // self.steps_per_rollout) * self.steps_per_rollout
        return min(rounded, self.total_steps)

    @property
    def test_seed(self) -> int:
        """Environment seed of the test episodes, which training never sees."""
        return derived_seed(self.seed, Reinforcement.TEST)

    @property
    def is_constant(self) -> bool:
        """Whether the step size does not depend on how many steps there are."""
        return self.ppo.schedule == "constant"

    @property
    def envs_per_minibatch(self) -> int:
        """Environments in a minibatch; the last one may have fewer."""
        return -(-self.num_envs // self.ppo.minibatches)

    def policy_kwargs(self) -> dict[str, Any]:
        """Return the arguments of `PlasticPolicy`."""
        return {"core": self.network.core, "core_kwargs": self.network.options()}

    def ppo_kwargs(self) -> dict[str, Any]:
        """Return the arguments of PPO but for policy and seed, by Stable-Baselines3's names."""
        ppo = self.ppo
        names = ("learning_rate", "n_epochs", "gamma", "gae_lambda", "clip_range", "ent_coef")
        return {
            **{name: getattr(ppo, name) for name in (*names, "vf_coef", "max_grad_norm")},
            "n_steps": self.n_steps,
            "batch_size": self.envs_per_minibatch * self.n_steps,
            "device": self.device,
        }

    def learning_rate_at(self, step: int) -> float:
        """Return the step size of the updates after the evaluation at a step."""
        if self.is_constant:
            return self.ppo.learning_rate
        return self.ppo.learning_rate * (1 - step / self.total_steps)

    def to_json(self) -> str:
        """Write the settings as JSON."""
        return json.dumps({"format": FORMAT, "kind": _KIND, **asdict(self)}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "RLConfig":
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it is not JSON, or has settings that do not exist or do not fit.
        """
        data = read_run(text)
        if not is_rl_config(data):
            raise ValueError("these are not the settings of a reinforcement learning run")
        del data["kind"]
        return from_dict(RLConfig, data)


def is_rl_config(data: Any) -> bool:
    """Say whether settings read from JSON are those of a reinforcement learning run."""
    return isinstance(data, dict) and data.get("kind") == _KIND
