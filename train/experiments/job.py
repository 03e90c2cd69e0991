"""One run as a job of its own process: train it to its end, then score it on test episodes.

python -m train.experiments.job FOLDER

The folder holds the settings; whatever starts jobs (processes here, a cluster elsewhere) needs to
hand over nothing but its path, and may kill the job and start it again at any moment.
"""

import json
import logging
import os
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from plastic_envs.tasks import FewShot
from train.devices import resolve_for
from train.runs.files import write_text
from train.runs.run_folder import Record, RunFolder
from train.scoring.measures import scored, summary
from train.scoring.networks import evaluation_seed, probe_eta, run_over
from train.supervised.batches import embedded, whole
from train.supervised.config import TrainConfig
from train.supervised.encoders import image_encoder_of
from train.supervised.training import loss_of, train

TEST_EPISODES = 2_000
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_PATIENCE = 10.0  # seconds for another process to make the folder


def test_path(folder: RunFolder) -> Path:
    """Where the scores of a run on its test episodes are."""
    return folder.path / "test.json"


def failure_path(folder: RunFolder) -> Path:
    """Where it is written why a run failed, if it did."""
    return folder.path / "failed.txt"


def is_finished(folder: RunFolder, config: TrainConfig) -> bool:
    """Say whether a run is trained to its end and scored."""
    records = folder.metrics()
    trained = bool(records) and records[-1]["step"] >= config.steps
    return trained and test_path(folder).is_file()


def prepare(folder: RunFolder, config: TrainConfig) -> None:
    """Make the folder of a run, if it is not there yet.

    Raises:
        ValueError: If it holds a run with other settings.
    """
    if not folder.config_path.exists():
        with suppress(FileExistsError):  # whoever made it meanwhile is asked for the settings, too
            folder.create(config, patience=_PATIENCE)
            return
    found = folder.config()
    if replace(found, encoder_run=config.encoder_run) != config:
        raise ValueError(
            f"{folder.path} holds a run with other settings: choose another folder (--out)"
        )
    if found != config:  # everything was moved, and its encoder with it
        with folder.locked():
            write_text(folder.config_path, config.to_json())


def train_missing(folder: RunFolder) -> None:
    """Train the run in a folder of `prepare` to its end, from its last checkpoint on."""
    with folder.locked():
        config, standing = folder.config(), folder.standing()
        if standing is None:
            folder.write_versions()  # whoever prepared the folder may be another machine
        if standing is None or standing.step < config.steps:
            train(config, folder, resume=True, progress=False)


def run_job(folder: RunFolder, *, patience: float = 0.0) -> None:
    """Train the run in a folder to its end, from its last checkpoint on, and score it.

    Args:
        folder: Of `prepare`.
        patience: Seconds to wait for another process that is at work on it to end.

    Raises:
        BlockingIOError: If another process is at work on it.
    """
    with folder.locked(patience):
        failure = failure_path(folder)
        failure.unlink(missing_ok=True)
        try:
            train_missing(folder)
            result = score(folder)
        except Exception as error:
            write_text(failure, f"{error}\n")
            raise
        write_text(test_path(folder), json.dumps(result, indent=2) + "\n")


def score(folder: RunFolder, num_episodes: int = TEST_EPISODES) -> Record:
    """Score a run's best checkpoint on whole test episodes, its own third stream of the seed.

    Args:
        folder: The run.
        num_episodes: Number of episodes.

    Returns:
        The task's measures (`score` counts scored steps alone) with their half-width at 95 % over
        episodes; `loss`, what training minimises; the same measures of the oracle, prefixed by
        `oracle_`; `chance`, `optimum`; the mean plasticity rate `eta` at each step of an episode.
    """
    config = folder.config()
    network, step = folder.load_network("best")
    network.to(resolve_for(config.device))
    task = config.task_for("test")
    seed = evaluation_seed(config)
    sample = whole(task)
    if isinstance(task, FewShot):  # every image is encoded once, not in every episode
        sample = embedded(task, image_encoder_of(network).embed(task.images.images))
    batch = sample(num_episodes, seed)
    outputs = run_over(network, batch.inputs).outputs
    eta = probe_eta(folder)
    return {
        "step": step,
        "episodes": num_episodes,
        "seed": seed,
        **summary(scored(task, outputs, batch).measures),
        "loss": float(loss_of(config, task, outputs, batch)),
        **{f"oracle_{name}": value for name, value in task.oracle_measures(1_000, seed).items()},
        "chance": task.chance_score,
        "optimum": task.optimal_score,
        "eta": None if eta is None else [round(float(value), 6) for value in eta],
    }


def _end_with_parent() -> None:
    """End this process when the one that started it does, which closes its standard input."""

    def wait() -> None:
        os.read(0, 1)  # sys.stdin would be locked when the interpreter ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    _end_with_parent()
    torch.set_num_threads(1)
    run_job(RunFolder(Path(sys.argv[1])))
