"""What agents learn by reinforcement: several kinds of memory on the same tasks, beside none.

`mlp` remembers nothing: it sees the observation alone. `mlp-last` sees its last action and reward,
as all others do.
"""

from collections.abc import Mapping
from typing import Any

from train.experiments.sweep import (
    Axis,
    Budget,
    Experiment,
    First,
    Measure,
    Settings,
)
from train.names import BudgetName
from train.reinforcement.config import RLConfig

_LSTMS = ("hebbian-lstm", "gradient-lstm")
_REWARD_AT_ONCE = {"base_eta": 1.0, "base_decay": 0.03}
"""Where the paper's rates are not used: with these, what one reward tells can be remembered."""
_MAZE = {
    "ppo.gamma": 0.95,
    "ppo.learning_rate": 2e-3,
    "ppo.ent_coef": 0.02,
    "ppo.vf_coef": 0.005,  # rewards of 10 would let the values' loss drown the rest
}

_TITLES = {
    "hebbian-rnn": "Hebbian RNN",
    "gradient-rnn": "gradient RNN",
    "hebbian-lstm": "Hebbian LSTM",
    "gradient-lstm": "gradient LSTM",
    "lstm": "LSTM",
    "mesa": "mesa",
    "attention": "attention",
    "delta": "delta rule",
    "mlp-last": "last action and reward only",
    "mlp": "without memory",
}


def memory(core: str, **options: Any) -> dict[str, Any]:
    """Return the settings of an agent with an associative memory."""
    own = {f"network.core_settings.{name}": value for name, value in options.items()}
    return {"network.core": core, **own}


def _agents(
    hidden_size: int,
    plasticity: Mapping[str, float],
    memories: Mapping[str, Settings],
    *,
    lstms: bool = True,
) -> Axis:
    """Return the axis of agents that are compared."""
    rates = {f"network.rule_settings.{name}": value for name, value in plasticity.items()}
    points: dict[str, Settings] = {}
    for rule in ("hebbian", "gradient"):
        for cell in ("rnn", "lstm"):
            points[f"{rule}-{cell}"] = {"network.rule": rule, "network.cell": cell, **rates}
    points["lstm"] = {"network.core": "lstm"}
    points["mlp-last"] = {"network.core": "mlp"}
    points["mlp"] = {"network.core": "mlp", "previous_action_reward": False}
    sized = {
        name: {**settings, "network.core_settings.hidden_size": hidden_size}
        for name, settings in points.items()
        if lstms or name not in _LSTMS
    }
    for name, settings in memories.items():
        sized[name] = {**settings, "network.core_settings.embedding": hidden_size}
    return Axis("network", sized, _TITLES)


def _steps(steps: int) -> dict[str, int]:
    """Return the settings of a run of so many steps."""
    return {"steps": steps, "eval_every": steps // 20}


def by_reward(
    name: str,
    claim: str,
    env: str,
    *measures: Measure,
    steps: int,
    settings: Settings,
    plasticity: Mapping[str, float] | None = None,
    memories: Mapping[str, Settings] | None = None,
    memory_steps: int | None = None,
    lesson: Settings | None = None,
    smoke: Settings | None = None,
    **others: Any,
) -> Experiment:
    """Return an experiment with the budgets that all of them have.

    Args:
        name: Its name.
        claim: What it is to show.
        env: Where agents act.
        *measures: What is reported.
        steps: Environment steps on the laptop; twice as many are on the large budget.
        settings: Of all runs.
        plasticity: Of the rules; their own if not given.
        memories: Agents with associative memories, by label, with settings of their own.
        memory_steps: Their environment steps on the laptop, if they need others.
        lesson: What is learned before, in how many of the laptop's steps it takes.
        smoke: Settings that make episodes short.
        **others: More of the experiment.
    """

    def first(**changes: Any) -> tuple[First, ...]:
        if lesson is None:
            return ()
        return (First("start_from", {**lesson, **changes}, alike=True),)

    lengths = {"paper": (2 * steps, 4), "laptop": (steps, 3)}
    budgets: dict[BudgetName, Budget] = {}
    for budget, (length, seeds) in lengths.items():
        own = {} if memory_steps is None else _steps(length * memory_steps // steps)
        budgets[budget] = Budget(  # type: ignore[index]
            networks=_agents(
                128 if budget == "paper" else 64,
                plasticity or {},
                {name: {**settings, **own} for name, settings in (memories or {}).items()},
                lstms=budget == "paper",
            ),
            seeds=tuple(range(seeds)),
            settings=_steps(length),
            first=first(),
        )
    tiny = {"num_envs": 4, "ppo.minibatches": 2, "eval_episodes": 16, **(smoke or {})}
    tiny |= {"steps": 1_000, "eval_every": 500}
    budgets["smoke"] = Budget(
        networks=_agents(8, plasticity or {}, memories or {}, lstms=False),
        seeds=(0, 1),
        settings=tiny,
        first=first(steps=500, **(smoke or {})),
    )
    return Experiment(
        name,
        claim,
        budgets,
        kind=RLConfig,
        settings={"env": env, **settings},
        measures=measures or (Measure("score", "score"),),
        figures=("curves", "comparison"),
        **others,
    )


AGENTS = (
    by_reward(
        "rl-bandit",
        "An agent with plastic weights learns, from reward alone, to try arms and to keep to the "
        "best one.",
        "PlasticBandit-v0",
        Measure("score", "reward of a trial", digits=3),
        steps=1_000_000,
        settings={
            "ppo.n_steps": 100,
            "ppo.gamma": 0.9,
            "ppo.gae_lambda": 0.3,
            "ppo.learning_rate": 2e-3,
        },
        # A head for each arm, and one to spare: what the arms brought stands side by side.
        memories={
            "mesa": {
                **memory("mesa", heads=6, key_size=6, value_size=3),
                "ppo.learning_rate": 3e-3,
            }
        },
        memory_steps=300_000,
        smoke={"env_kwargs.num_trials": 20, "ppo.n_steps": 20},
    ),
    by_reward(
        "rl-cue-reward",
        "Which cue brings which reward is learned by reward alone, too.",
        "PlasticCueReward-v0",
        Measure("score", "squared error, query half", digits=3),
        steps=1_200_000,
        # What an answer brings does not depend on those before: gamma is 0.
        settings={
            "ppo.n_steps": 20,
            "ppo.gamma": 0.0,
            "ppo.learning_rate": 2e-3,
            "ppo.ent_coef": 0.0,
        },
        plasticity=_REWARD_AT_ONCE,
        memories={"attention": {**memory("attention", context=20), "ppo.log_std_init": -1.0}},
        memory_steps=200_000,
    ),
    by_reward(
        "rl-maze",
        "An agent with plastic weights remembers where the reward was in a maze that it has not "
        "seen before, and comes back.",
        "PlasticMaze-v0",
        Measure("score", "return", digits=1),
        steps=1_500_000,
        settings={
            "env_kwargs.size": 7,
            "env_kwargs.episode_length": 100,
            "ppo.n_steps": 100,
            **_MAZE,
        },
        memories={"delta": memory("delta", features="gru")},
        smoke={"env_kwargs.episode_length": 20, "ppo.n_steps": 20},
    ),
    by_reward(
        "rl-maze-large",
        "In the larger maze of the paper that it is from, memory brings three times the return of "
        "an agent without.",
        "PlasticMaze-v0",
        Measure("score", "return", digits=1),
        steps=4_000_000,
        settings={"ppo.n_steps": 250, **_MAZE},
        memories={"delta": {**memory("delta", features="gru"), "num_envs": 32}},
        memory_steps=1_000_000,
        smoke={"env_kwargs.episode_length": 20, "ppo.n_steps": 20},
    ),
    by_reward(
        "rl-target-search",
        "After an easier lesson an agent with plastic weights finds the target of each cue by "
        "trying, and remembers it.",
        "PlasticTargetSearch-v0",
        Measure("last_five", "right answers, last five trials", digits=3),
        Measure("score", "right answers, all trials", digits=3),
        steps=3_000_000,
        settings={
            "ppo.n_steps": 120,
            "ppo.gamma": 0.0,
            "ppo.learning_rate": 3e-3,
            "ppo.ent_coef": 0.003,
            "ppo.vf_coef": 0.2,
        },
        plasticity=_REWARD_AT_ONCE,
        memories={"mesa": memory("mesa", features="gru")},
        lesson={
            "env_kwargs.num_cues": 2,
            "env_kwargs.episode_length": 30,
            "ppo.schedule": "constant",
            "steps": 1_000_000,
            "eval_every": 50_000,
        },
        smoke={"env_kwargs.episode_length": 30, "ppo.n_steps": 30},
        note="The lesson is the same task with two cues in episodes of 30 steps, without which "
        "none learned it at all. Steps are those after it; seconds are of both.",
    ),
    by_reward(
        "rl-repeat-previous",
        "On somebody else's memory task, to say which card was shown four steps ago, agents with "
        "plastic weights learn what an LSTM learns, and one without memory does not.",
        "popgym:popgym-RepeatPreviousEasy-v0",
        Measure("score", "return", digits=3),
        steps=200_000,
        settings={"num_envs": 16, "eval_episodes": 128, "ppo.schedule": "constant"},
        smoke={"ppo.n_steps": 32},
        note="The environment is of POPGym (Morad et al., ICLR 2023, arXiv 2303.01859) and takes "
        "`pip install popgym`. `python -m benchmarks.contrib_ppo` trains sb3-contrib's "
        "RecurrentPPO with the same settings.",
    ),
)
"""All experiments of reinforcement learning. The settings of our tasks were found with the Hebbian
RNN, seed 0, and are the same for all agents, but for what stands with an associative memory."""
