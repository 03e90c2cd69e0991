"""Experiments in place of the published ones, whose jobs run in this process."""

import pytest

import train.experiments.command as command_module
from tests.train.tiny_experiments import HereExecutor
from train.experiments import published
from train.experiments.job import score


@pytest.fixture(autouse=True)
def few_test_episodes(monkeypatch):
    monkeypatch.setattr("train.experiments.job.score", lambda folder: score(folder, 20))


@pytest.fixture
def declared(monkeypatch):
    """Return a function that declares experiments in place of the published ones."""

    def declare(*experiments):
        table = {experiment.name: experiment for experiment in experiments}
        monkeypatch.setattr(published, "EXPERIMENTS", table)

    return declare


@pytest.fixture
def here(monkeypatch):
    """Run jobs in this process; yields the executors that were made."""
    made = []

    def make(jobs):
        made.append(HereExecutor())
        return made[-1]

    monkeypatch.setattr(command_module, "LocalProcesses", make)
    return made
