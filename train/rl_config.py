"""Settings of a reinforcement learning run, and their file."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import tyro

from agents.network import RULES, CellName, RuleName
from agents.rules import RuleSettings
from plastic_envs import ids, make_task
from plastic_envs.tasks import InteractiveTask, SequenceTask
from train.config import from_dict

CoreName = Literal["plastic", "lstm", "gru", "rnn", "mlp"]  # as in agents.sb3, not always there

_KIND = "reinforcement"
_ROLLOUT = 128  # steps that a rollout has at least


@dataclass(frozen=True)
class RLNetworkConfig:
    """The agent's network: a recurrent core, and a small actor and critic on it."""

    core: CoreName = "plastic"
    """What remembers: a plastic network, torch's LSTM, GRU or RNN, or "mlp", which does not."""
    rule: RuleName = "hebbian"
    """Plasticity rule of a plastic core."""
    cell: CellName = "rnn"
    """Recurrent cell of a plastic core."""
    hidden_size: int = 64
    """Hidden units of the core."""
    extra_dim: int = 4
    """Free readout units of a plastic core."""
    plasticity: Annotated[RuleSettings, tyro.conf.arg(name="")] = field(
        default_factory=RuleSettings
    )

    @property
    def name(self) -> str:
        """A few words, such as `hebbian-rnn-64`."""
        core = f"{self.rule}-{self.cell}" if self.core == "plastic" else self.core
        return f"{core}-{self.hidden_size}"

    def policy_kwargs(self) -> dict[str, Any]:
        """Return the arguments of `PlasticPolicy`."""
        kwargs: dict[str, Any] = {"core": self.core, "hidden_size": self.hidden_size}
        if self.core == "plastic":
            kwargs["rule"] = RULES[self.rule](**asdict(self.plasticity))
            kwargs["cell"] = self.cell
            kwargs["core_kwargs"] = {"extra_dim": self.extra_dim}
        return kwargs


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation, by Stable-Baselines3's names."""

    n_steps: int | None = None
    """Steps of each environment in a rollout; whole episodes of our tasks, 128 steps or more."""
    minibatches: int = 4
    """Minibatches of whole environments in an epoch."""
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


@dataclass(frozen=True)
class RLConfig:
    """A run of reinforcement learning, on any Gymnasium environment."""

    env: str = "PlasticBandit-v0"
    """Gymnasium id; "module:Id-v0" imports the module that registers it."""
    env_kwargs: dict[str, int | float | bool | str] = field(default_factory=dict)
    """Arguments of the environment, such as: num_arms 10 num_trials 50."""
    previous_action_reward: bool = True
    """Show the agent its last action and reward with every observation."""
    network: Annotated[RLNetworkConfig, tyro.conf.arg(name="")] = field(
        default_factory=RLNetworkConfig
    )
    ppo: Annotated[PPOConfig, tyro.conf.arg(name="")] = field(default_factory=PPOConfig)
    start_from: str | None = None
    """Start with the parameters of the best agent of this run, as after an easier lesson."""
    steps: int = 1_000_000
    """Environment steps, all environments together, rounded up to whole rollouts."""
    num_envs: int = 64
    """Environments side by side."""
    eval_every: int = 50_000
    """Environment steps between evaluations, rounded up to whole rollouts."""
    eval_episodes: int = 256
    """Episodes of an evaluation, always the same ones."""
    deterministic: bool | None = None
    """Evaluate the most probable actions instead of drawing them; by default where they are
    real."""
    seed: int = 0
    """Seed of initial parameters, environments and actions."""
    threads: int | None = None
    """Threads of torch; its default if not given."""

    def __post_init__(self) -> None:
        """Check what types do not say.

        Raises:
            ValueError: If a number is out of range.
        """
        ppo = self.ppo
        for name in ("steps", "num_envs", "eval_every", "minibatches", "n_epochs", "hidden_size"):
            owner = next(part for part in (self, ppo, self.network) if hasattr(part, name))
            if getattr(owner, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(owner, name)}")
        if self.eval_episodes < 2:
            raise ValueError(f"eval_episodes must be at least 2, got {self.eval_episodes}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be from 0 to 2**63 - 1, got {self.seed}")
        if ppo.n_steps is not None and ppo.n_steps < 2:
            raise ValueError(f"n_steps must be at least 2, got {ppo.n_steps}")
        if ppo.minibatches > self.num_envs:
            raise ValueError(
                f"minibatches are whole environments: at most num_envs={self.num_envs} of them, "
                f"got {ppo.minibatches}"
            )
        for name in ("learning_rate", "clip_range", "max_grad_norm"):
            if not getattr(ppo, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(ppo, name)}")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(ppo, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(ppo, name)}")
        for name in ("ent_coef", "vf_coef"):
            if not 0 <= getattr(ppo, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(ppo, name)}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        if self.task_id == "PlasticFewShot-v0" and self.previous_action_reward:
            raise ValueError(
                "images come with their labels: previous_action_reward must be off for "
                "PlasticFewShot-v0 (--no-previous-action-reward)"
            )

    @property
    def name(self) -> str:
        """A name for the run, `ENV-AGENT-seedN`."""
        return f"{self.env.split(':')[-1]}-{self.agent}-seed{self.seed}"

    @property
    def agent(self) -> str:
        """A name for the agent, its network and whether it sees the observation alone."""
        return self.network.name + ("" if self.previous_action_reward else "-observation-only")

    @property
    def task(self) -> SequenceTask | InteractiveTask | None:
        """The task behind the id, or None if the environment is not one of ours."""
        return make_task(self.task_id, **self.env_kwargs) if self.task_id else None

    @property
    def task_id(self) -> str | None:
        """The id of that task, without the module."""
        env_id = self.env.removeprefix("plastic_envs:")
        return env_id if env_id in ids() else None

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
    def rollouts_per_evaluation(self) -> int:
        """Rollouts between two evaluations."""
        return -(-self.eval_every // self.steps_per_rollout)

    @property
    def num_evaluations(self) -> int:
        """Evaluations of the run, without that of the agent that has learned nothing."""
        return -(-self.steps // (self.rollouts_per_evaluation * self.steps_per_rollout))

    def ppo_kwargs(self) -> dict[str, Any]:
        """Return the arguments of PPO but for policy and seed, by Stable-Baselines3's names."""
        ppo = self.ppo
        names = ("learning_rate", "n_epochs", "gamma", "gae_lambda", "clip_range", "ent_coef")
        return {
            **{name: getattr(ppo, name) for name in (*names, "vf_coef", "max_grad_norm")},
            "n_steps": self.n_steps,
            "batch_size": -(-self.num_envs // ppo.minibatches) * self.n_steps,
            "device": "cpu",
        }

    def learning_rate_at(self, evaluation: int) -> float:
        """Return the step size of the updates after an evaluation."""
        if self.ppo.schedule == "constant":
            return self.ppo.learning_rate
        return self.ppo.learning_rate * (1 - evaluation / self.num_evaluations)

    def to_json(self) -> str:
        """Write the settings as JSON."""
        return json.dumps({"kind": _KIND, **asdict(self)}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "RLConfig":
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it is not JSON, or has settings that do not exist or do not fit.
        """
        data = json.loads(text)
        if not is_rl_config(data):
            raise ValueError("these are not the settings of a reinforcement learning run")
        del data["kind"]
        return from_dict(RLConfig, data)


def is_rl_config(data: Any) -> bool:
    """Say whether settings read from JSON are those of a reinforcement learning run."""
    return isinstance(data, dict) and data.get("kind") == _KIND
