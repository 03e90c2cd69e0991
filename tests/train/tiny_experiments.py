"""Experiments of a few seconds, and what it takes to watch them run."""

import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from train.experiments.executors import JobError
from train.experiments.job import run_job
from train.experiments.networks import networks
from train.experiments.published.paper import MEASURES
from train.experiments.reproduce import Planned, stages
from train.experiments.sweep import Axis, Budget, Experiment, First, vary
from train.reinforcement.config import RLConfig
from train.runs.run_folder import open_run

TINY = {"task_settings.num_cues": 2, "task_settings.cue_size": 3, "task_settings.episode_length": 6}
STEPS = {"steps": 6, "batch_size": 4, "eval_every": 3, "eval_episodes": 8}


def make_experiment(
    name="tiny", task="cue-reward", rules=("gradient", "none"), settings=None, first=(), **others
):
    tiny = TINY if task == "cue-reward" else {}
    size = {**STEPS, **tiny, **(settings or {})}
    budget = Budget(networks({"rnn": 8}, rules), seeds=(0, 1), settings=size, first=first)
    return Experiment(name, "A claim.", {"smoke": budget}, settings={"task": task}, **others)


NOISE = make_experiment(
    axes=(vary("noise", (0.1, 0.5), "task_settings.noise"),), measures=MEASURES["cue-reward"]
)


LONG = make_experiment(rules=("none",), settings={"steps": 80, "eval_every": 8})
"""Time enough to be cut off."""


def few_shot_experiment(image_file, rules=("hebbian",)):
    images = {
        "task_settings.n_way": 3,
        "task_settings.n_query": 3,
        "task_settings.source": "arrays",
        "task_settings.root": str(image_file),
        "network.filters": 4,
    }
    encoder = {**STEPS, **images, "task": "few-shot", "network.core": "prototypical"}
    first = (First("encoder_run", encoder),)
    return make_experiment("images", "few-shot", rules, settings=images, first=first)


def rl_experiment(name="maze", lesson=True):
    """Return an experiment of agents of a fraction of a second, with a lesson before each."""
    agents = {
        "hebbian-rnn": {"network.rule": "hebbian", "network.core_settings.hidden_size": 4},
        "mlp": {"network.core": "mlp", "previous_action_reward": False},
    }
    settings = {
        "env_kwargs.size": 5,
        "env_kwargs.episode_length": 6,
        "ppo.n_steps": 6,
        "ppo.minibatches": 2,
        "steps": 48,
        "num_envs": 4,
        "eval_every": 24,
        "eval_episodes": 4,
    }
    lessons = (First("start_from", {"env_kwargs.episode_length": 4, "steps": 24}, alike=True),)
    budget = Budget(Axis("network", agents, {"mlp": "no memory"}), (0,), settings)
    if lesson:
        budget = replace(budget, first=lessons)
    fixed = {"env": "PlasticMaze-v0"}
    return Experiment(name, "A claim.", {"smoke": budget}, kind=RLConfig, settings=fixed)


class HereExecutor:
    """Runs jobs in this process, and fails those it is told to."""

    cores = 1

    def __init__(self, failing=lambda path: False):
        self.failing, self.paths, self.stopped = failing, [], False

    def submit(self, path):
        self.paths.append(path)
        future = Future()
        if self.failing(path):
            future.set_exception(JobError("told to"))
        else:
            run_job(open_run(path))
            future.set_result(None)
        return future

    def stop(self):
        self.stopped = True


def plan_of(experiment, out):
    return Planned(experiment, "smoke", out, {})


def jobs_of(plan):
    return stages([(plan, plan.all_runs())])


def begun(out, lines):
    """Return whether any run has this many validations behind it."""
    return any(path.read_text().count("\n") >= lines for path in out.glob("smoke/*/metrics.jsonl"))


def wait_until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def processes_of(path):
    """Return the ids of the processes with a path in their command."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(word.startswith(str(path) + "/") for word in words):
            found.append(int(entry.parent.name))
    return found
