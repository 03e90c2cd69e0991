"""What `plastic demo` shows, small enough for a laptop and a few minutes."""

from dataclasses import replace

from train.experiments.networks import networks
from train.experiments.published.paper import LAPTOP_SETTINGS, MEASURES
from train.experiments.sweep import Axis, Budget, Experiment, Settings

_MEMORIES: dict[str, Settings] = {
    "mesa": {"features": "relu", "key_size": 32},
    "attention": {"features": "relu", "match": "dot"},
}


def _compared(size: int) -> Axis:
    """Return plastic networks of a size, one without plasticity, and associative memories."""
    axis = networks({"rnn": size})
    points = {
        core: {"network.core": core}
        | {f"network.core_settings.{name}": value for name, value in settings.items()}
        for core, settings in _MEMORIES.items()
    }
    return replace(axis, points={**axis.points, **points})


DEMO = Experiment(
    name="demo",
    claim="In a few minutes a network with plastic weights learns to learn which cue brings which "
    "reward, and an ordinary one of equal size hardly does. A memory of key-value pairs learns it "
    "sooner: attention over the episode nearly as well as can be, least squares (mesa) less well.",
    settings={"task": "cue-reward"},
    measures=MEASURES["cue-reward"],
    budgets={
        "laptop": Budget(
            networks=_compared(64),
            seeds=(0,),
            settings={
                **LAPTOP_SETTINGS,
                "steps": 2_500,
                "eval_every": 250,
                "eval_episodes": 500,
            },
        ),
        "smoke": Budget(
            networks=_compared(8),
            seeds=(0,),
            settings={"steps": 40, "eval_every": 20, "eval_episodes": 50, "batch_size": 16},
        ),
    },
)
