"""What `plastic demo` shows, small enough for a laptop and a few minutes."""

from train.experiments.networks import networks
from train.experiments.published.paper import MEASURES
from train.experiments.sweep import Budget, Experiment

DEMO = Experiment(
    name="demo",
    claim="In a few minutes a network with plastic weights learns to learn which cue brings which "
    "reward; an ordinary one of equal size hardly does.",
    settings={"task": "cue-reward"},
    measures=MEASURES["cue-reward"],
    budgets={
        "laptop": Budget(
            networks=networks({"rnn": 64}),
            seeds=(0,),
            settings={
                "steps": 4_000,
                "eval_every": 200,
                "eval_episodes": 500,
                "learning_rate": 2e-3,
            },
        ),
        "smoke": Budget(
            networks=networks({"rnn": 8}),
            seeds=(0,),
            settings={"steps": 40, "eval_every": 20, "eval_episodes": 50, "batch_size": 16},
        ),
    },
)
