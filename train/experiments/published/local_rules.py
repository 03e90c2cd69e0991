"""Which local rule comes near the best linear predictor on few-shot regression.

Networks are small, and trained for about as many seconds each: the compiled form takes more steps
in the time that the closed one needs for few.
"""

from train.experiments.published.paper import MEASURES
from train.experiments.sweep import Axis, Budget, Experiment, Settings

_TAUGHT: Settings = {"network.core_settings.teaching_size": 2}
"""The value and the flag reach the readout alone."""

_GRADIENT: Settings = {
    "learning_rate": 5e-3,
    "network.core_settings.extra_dim": 8,
    "network.rule_settings.base_eta": 0.3,
    "network.rule_settings.base_decay": 0.03,
}
"""What suits the rules of the paper in forty steps (see `LAPTOP_SETTINGS` there)."""

_PRECONDITIONED: Settings = {
    "network.rule": "preconditioned",
    "network.rule_settings.layers": "readout",
    "network.rule_settings.prior_variance": 30.0,
    "network.core_settings.extra_dim": 0,
}

_TITLES = {
    "gradient-rnn": "gradient",
    "hebbian-rnn": "Hebbian",
    "gradient-taught": "gradient, taught",
    "preconditioned-rnn": "preconditioned",
    "preconditioned-taught": "preconditioned, taught",
}


def _networks(units: int, steps: int, steps_compiled: int) -> Axis:
    """Return the networks that are compared, of so many hidden units."""
    compiled: Settings = {**_GRADIENT, "steps": steps_compiled}
    points: dict[str, Settings] = {
        "gradient-rnn": {"network.rule": "gradient", **compiled},
        "hebbian-rnn": {"network.rule": "hebbian", **compiled},
        "gradient-taught": {"network.rule": "gradient", **_TAUGHT, **_GRADIENT, "steps": steps},
        "preconditioned-rnn": {**_PRECONDITIONED, "steps": steps},
        "preconditioned-taught": {**_PRECONDITIONED, **_TAUGHT, "steps": steps},
    }
    size: Settings = {"network.core_settings.hidden_size": units}
    return Axis("network", {name: {**size, **point} for name, point in points.items()}, _TITLES)


LOCAL_RULES = Experiment(
    name="local-rules",
    claim="A plastic network comes near ridge regression on linear functions if what it writes is "
    "preconditioned and its keys do not see the value (taught); neither alone is enough.",
    settings={
        "task": "regression",
        "task_settings.kind": "linear",
        "schedule": "cosine",
        "learning_rate": 2e-2,
    },
    measures=MEASURES["regression"],
    figures=("curves", "comparison"),
    budgets={
        "laptop": Budget(
            networks=_networks(24, 400, 1_600),
            seeds=(0, 1, 2),
            settings={"eval_every": 100, "eval_episodes": 300},
        ),
        "smoke": Budget(
            networks=_networks(8, 20, 40),
            seeds=(0, 1),
            settings={"eval_every": 20, "eval_episodes": 50, "batch_size": 16},
        ),
    },
)
