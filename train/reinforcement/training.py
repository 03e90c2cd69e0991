"""Reinforcement learning: an agent learns by `RecurrentPPO` to act, and to learn while it acts.

Training goes from evaluation to evaluation. Each part starts with new episodes and random numbers
of its own, all derived from the run's seed, so that a run that was cut off goes on from its last
evaluation as if nothing had happened. Settings: `train.reinforcement.config.RLConfig`; results:
`train.runs.run_folder`.
"""

import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import ConstantSchedule
from tqdm import tqdm

from agents.sb3 import RecurrentPPO
from train.reinforcement.agent import new_agent
from train.reinforcement.config import RLConfig
from train.reinforcement.environments import (
    check_environments,
    make_evaluation_vec,
    make_vec,
    naming_settings,
)
from train.runs.checkpoints import load_parameters
from train.runs.files import naming
from train.runs.run_folder import Record, RLRunFolder
from train.scoring.agents import measure
from train.scoring.measures import summary
from train.seeds import Reinforcement, derived_seed

logger = logging.getLogger(__name__)


def train_agent(
    config: RLConfig, folder: RLRunFolder, *, resume: bool = False, progress: bool = True
) -> Record:
    """Train an agent.

    Args:
        config: Settings; for a resumed run, those of its folder, or those with more steps. If the
            step size does not depend on the number of steps, it ends as if it had had them from
            the start.
        folder: Where the run is kept.
        resume: Go on with the run in `folder` instead of starting one.
        progress: Show a progress bar.

    Returns:
        The last metrics record.

    Raises:
        BlockingIOError: If another process is at work in the folder.
        EnvironmentFailedError: If the environment raises an error.
        FileExistsError: If a new run is to start in a folder that holds one.
        FileNotFoundError: If the run to start from does not exist, or a file of the run to go on
            with is missing.
        OSError: If the folder cannot be written.
        ValueError: If the environment cannot be made or does not suit, the run to start from is of
            another network, a checkpoint cannot be read, or the files of the run do not belong
            together.
    """
    if not resume:
        folder.check_unused()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with naming_settings(folder.config_path):
        check_environments(config)
        env = make_vec(config, config.num_envs, "train")
        validation = make_evaluation_vec(config, config.eval_episodes, "validation")
    try:
        model = new_agent(config, env, derived_seed(config.seed, Reinforcement.BUILD))
        if config.start_from is not None and not folder.checkpoint_path("last").exists():
            _copy_parameters(RLRunFolder(Path(config.start_from)), model)
        with folder.at_work(config, resume=resume):
            logger.info("training in %s", folder.path)
            if folder.checkpoint_path("last").exists():
                model = folder.load_model("last", env)
            return _Training(config, model, folder, validation).run(progress)
    finally:
        env.close()
        validation.close()


class _Training:
    """The state of a run between two evaluations."""

    def __init__(
        self,
        config: RLConfig,
        model: RecurrentPPO,
        folder: RLRunFolder,
        validation: VectorEnv[Any, Any, Any],
    ) -> None:
        self.config, self.model, self.folder = config, model, folder
        self.validation = validation
        standing = folder.standing()
        self.best = None if standing is None else standing.best
        self.seconds = 0.0 if standing is None else standing.seconds
        self.cpu_seconds = folder.cpu_seconds() or 0.0
        self.parts_done = 0 if standing is None else standing.metrics["records"] - 1
        self.events_path = folder.path / "events.out.tfevents"
        with naming(self.events_path):
            model.set_logger(configure(str(folder.path), ["tensorboard"]))

    def run(self, progress: bool) -> Record:
        config, model = self.config, self.model
        steps = config.total_steps
        if steps != config.steps:
            logger.info(
                "%d steps: %d rollouts of %d (%d steps of %d environments)",
                *(steps, steps // config.steps_per_rollout, config.steps_per_rollout),
                *(config.n_steps, config.num_envs),
            )
        bar = tqdm(
            total=steps, initial=model.num_timesteps, unit="step", disable=not progress, leave=True
        )
        try:
            with bar:
                if self.best is None:
                    self._evaluate()
                while model.num_timesteps < steps:
                    started, busy = time.perf_counter(), time.process_time()
                    self._train_part(bar)
                    self.parts_done += 1
                    self.seconds += time.perf_counter() - started
                    self.cpu_seconds += time.process_time() - busy
                    record = self._evaluate()
                    bar.set_postfix(val_score=f"{record['val_score']:.4f}")
        finally:
            model.logger.close()
        return self.folder.metrics()[-1]

    def _train_part(self, bar: "tqdm[Any]") -> None:
        config, model = self.config, self.model
        step = model.num_timesteps
        model.set_random_seed(derived_seed(config.seed, Reinforcement.TRAIN, self.parts_done))
        model.start_new_episodes()
        model.lr_schedule = ConstantSchedule(config.learning_rate_at(step))
        steps = config.next_evaluation(step) - step
        model.learn(steps, _Progress(bar), reset_num_timesteps=False)

    def _evaluate(self) -> Record:
        """Score the agent on the validation episodes; log it and leave a checkpoint."""
        config, model, folder = self.config, self.model, self.folder
        seed = derived_seed(config.seed, Reinforcement.VALIDATE)
        measures = measure(config, model, self.validation, config.eval_episodes, seed)
        training = np.mean([episode["r"] for episode in model.ep_info_buffer or []] or [np.nan])
        step = model.num_timesteps
        record: Record = {
            "step": step,
            "train_return": None if np.isnan(training) else float(training),
            **{
                name.replace("/", "_"): float(value)
                for name, value in model.logger.name_to_value.items()
                if name.startswith("train/") and not name.endswith("n_updates")
            },
            **{f"val_{name}": value for name, value in summary(measures).items()},
        }
        folder.append(folder.metrics_path, record)
        timing = {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 3)}
        folder.append(folder.timing_path, {"step": step, **timing})
        with naming(self.events_path):
            for name in measures:
                model.logger.record(f"val/{name}", record[f"val_{name}"])
            model.logger.dump(step)
        if self.best is not None and not config.validates_at(step):
            folder.keep_regular(self.best)
        best: Record = {"step": step, "val_score": record["val_score"]}
        if self.best is not None and not self._is_better(best["val_score"], self.best["val_score"]):
            best = self.best
        standing = folder.standing_at(step, self.seconds, best, config)
        if best is not self.best:
            folder.save_model("best", model, standing)
        self.best = best
        folder.save_model("last", model, standing)
        return record

    def _is_better(self, score: float, other: float) -> bool:
        if math.isnan(other):  # of a foreign environment
            return not math.isnan(score)
        return score > other if self.config.higher_is_better else score < other


def _copy_parameters(folder: RLRunFolder, model: RecurrentPPO) -> None:
    """Start with what another run has learned."""
    other = folder.load_model("best")
    try:
        load_parameters(model.policy, other.policy.state_dict())
    except ValueError as error:
        raise ValueError(f"the agent of {folder.path} does not fit: {error}") from error


class _Progress(BaseCallback):
    """Moves a progress bar."""

    def __init__(self, bar: "tqdm[Any]") -> None:
        super().__init__()
        self._bar = bar

    def _on_step(self) -> bool:
        self._bar.update(self.training_env.num_envs)
        return True
