"""Experiments of a few seconds, and what it takes to watch them run."""

import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from plastic_envs.tasks import CueReward
from train.experiments.executors import JobError
from train.experiments.job import run_job
from train.experiments.reproduce import Planned, stages
from train.experiments.sweep import Budget, Experiment, networks, vary
from train.runs.run_folder import RunFolder

TINY = {"cue_reward": CueReward(num_cues=2, cue_size=3, episode_length=6)}
STEPS = {"steps": 6, "batch_size": 4, "eval_every": 3, "eval_episodes": 8}


def make_experiment(name="tiny", task="cue-reward", rules=("gradient", "none"), **others):
    settings = {**STEPS, **(TINY if task == "cue-reward" else {}), **others.pop("settings", {})}
    budget = Budget(networks({"rnn": 8}, rules), seeds=(0, 1), settings=settings)
    return Experiment(name, "A claim.", task, {"smoke": budget}, **others)


NOISE = make_experiment(axes=(vary("noise", (0.1, 0.5), "cue_reward.noise"),))


LONG = make_experiment(rules=("none",), settings={"steps": 80, "eval_every": 8})
"""Time enough to be cut off."""


def few_shot_experiment(image_file, rules=("hebbian",)):
    images = {
        "few_shot.n_way": 3,
        "few_shot.n_query": 3,
        "few_shot.source": "arrays",
        "few_shot.root": str(image_file),
        "network.filters": 4,
    }
    experiment = make_experiment("images", "few-shot", rules, settings=images)
    budget = experiment.budgets["smoke"]
    encoder = {**STEPS, **images, "network.core": "prototypical"}
    return replace(experiment, budgets={"smoke": replace(budget, encoder=encoder)})


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
            run_job(RunFolder(path))
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
