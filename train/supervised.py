"""Supervised meta-training: a network learns, over many episodes, to learn within one.

Each step draws a batch of fresh episodes, runs the network over them, and descends the squared
error of its answers with AdamW. Settings: `train.config.TrainConfig`; results: `train.run_folder`.
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from agents import PlasticNetwork, Probes
from plastic_envs.tasks import Episodes
from train.config import TrainConfig
from train.plotting import episode_figure
from train.run_folder import Record, RunFolder, load_parameters

logger = logging.getLogger(__name__)

_TRAIN, _VALIDATE, _TEST = 0, 1, 2  # branches of the run's seed
_FIGURES = 10  # figures for TensorBoard over a run


class NonFiniteLossError(RuntimeError):
    """Training cannot go on: the loss or its gradient is infinite or not a number."""


def train(
    config: TrainConfig, folder: RunFolder, *, resume: bool = False, progress: bool = True
) -> Record:
    """Train a network.

    A run that was cut off, at any moment, goes on from its last checkpoint and ends with the very
    numbers of an uninterrupted one (same machine, same number of threads).

    Args:
        config: Settings; for a resumed run, those of its folder.
        folder: Where the run is kept.
        resume: Go on with the run in `folder` instead of starting one.
        progress: Show a progress bar.

    Returns:
        The last metrics record.

    Raises:
        FileExistsError: If a new run is to start in a folder that holds one.
        NonFiniteLossError: If the loss becomes infinite or not a number. The checkpoints stay.
    """
    network = config.network.build(config.task_definition, config.seed)
    able = network.supported_forms()
    if network.form not in ("auto", *able):
        raise ValueError(f"form {network.form!r} cannot compute this network: {able} can")
    if not resume:
        folder.create(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return _Training(config, network, folder).run(progress)


def evaluation_seed(config: TrainConfig) -> int:
    """Return the environment seed of a run's test episodes, which training never sees."""
    sequence = np.random.SeedSequence(config.seed, spawn_key=(_TEST,))
    return int(sequence.generate_state(1)[0])


def loss_mask(config: TrainConfig, episodes: Episodes) -> Tensor:
    """Return the steps [B, T] that the loss of a run averages, as bool."""
    scored = torch.from_numpy(episodes.scored)
    return torch.ones_like(scored) if config.loss_steps == "all" else scored


def masked_mse(answers: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error of answers [B, T, A] over the steps in mask [B, T]."""
    errors = (answers - targets).square().mean(dim=-1)
    return (errors * mask).sum() / mask.sum()


class _Training:
    """The state of a run between two steps."""

    def __init__(self, config: TrainConfig, network: PlasticNetwork, folder: RunFolder) -> None:
        self.config, self.network, self.folder = config, network, folder
        self.task = config.task_definition
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            amsgrad=True,
        )
        self.validation = self._sample(config.eval_episodes, _VALIDATE)
        self.step, self.seconds = 0, 0.0
        self.best: Record | None = None
        self.recent: list[tuple[float, float]] = []  # loss and gradient norm since validation
        if folder.checkpoint_path("last").exists():
            self._restore()
        folder.drop_after(self.step if self.best else -1)

    def run(self, progress: bool) -> Record:
        config, started = self.config, time.perf_counter()
        already = self.seconds
        writer = SummaryWriter(str(self.folder.path), purge_step=self.step + 1)
        bar = tqdm(
            total=config.steps, initial=self.step, unit="step", disable=not progress, leave=True
        )
        with writer, bar:
            if self.best is None:
                self._validate(writer)
            while self.step < config.steps:
                self.recent.append(self._train_step())
                self.step += 1
                bar.update()
                if self.step % config.eval_every == 0 or self.step == config.steps:
                    self.seconds = already + time.perf_counter() - started
                    record = self._validate(writer)
                    bar.set_postfix(val_score=f"{record['val_score']:.4f}")
        records = self.folder.metrics()
        if not records:
            raise ValueError(f"{self.folder.metrics_path} is missing: the run is not whole")
        return records[-1]

    def _train_step(self) -> tuple[float, float]:
        config = self.config
        episodes = self._sample(config.batch_size, _TRAIN, self.step)
        answers, _ = self.network(torch.from_numpy(episodes.observations))
        targets = torch.from_numpy(episodes.targets)
        loss = masked_mse(answers, targets, loss_mask(config, episodes))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.max_grad_norm)
        if not (loss.isfinite() and norm.isfinite()):
            raise self._not_finite(f"the training loss is {loss:.3g}, its gradient {norm:.3g}")
        self.optimizer.step()
        return loss.item(), norm.item()

    def _validate(self, writer: SummaryWriter) -> Record:
        """Score the network on the validation episodes; log it and leave a checkpoint."""
        answers, probes = self._probe_validation()
        episodes = self.validation
        loss = masked_mse(
            answers, torch.from_numpy(episodes.targets), loss_mask(self.config, episodes)
        )
        if not loss.isfinite():
            raise self._not_finite(f"the validation loss is {loss:.3g}")
        score = self.task.score(answers.numpy(), episodes)
        train_loss, norm = np.mean(self.recent, axis=0) if self.recent else (None, None)
        record = {
            "step": self.step,
            "train_loss": None if train_loss is None else float(train_loss),
            "grad_norm": None if norm is None else float(norm),
            "val_loss": float(loss),
            "val_score": score,
            "eta": float(probes.eta.mean()),
            "decay": float(probes.decay.mean()),
            "write_norm": float(probes.write_norm.mean()),
            "inner_loss": float(probes.inner_loss.mean()),
        }
        self.recent = []
        self.folder.append(self.folder.metrics_path, record)
        self.folder.append(
            self.folder.timing_path, {"step": self.step, "seconds": round(self.seconds, 3)}
        )
        self._log(writer, record, answers, probes)
        if self.best is None or score < self.best["val_score"]:
            self.best = {"step": self.step, "val_score": score}
            self.folder.save_checkpoint("best", self._checkpoint())
        self.folder.save_checkpoint("last", self._checkpoint())
        return record

    def _probe_validation(self) -> tuple[Tensor, Probes]:
        """Run the network over the validation episodes, in blocks that bound the memory."""
        blocks = torch.split(torch.from_numpy(self.validation.observations), 256)
        with torch.no_grad():
            results = [self.network.probe(block) for block in blocks]
        answers = torch.cat([answer for answer, _, _ in results])
        return answers, Probes(*(torch.cat(v) for v in zip(*(r[2] for r in results), strict=True)))

    def _log(self, writer: SummaryWriter, record: Record, answers: Tensor, probes: Probes) -> None:
        groups = {
            "train_loss": "train",
            "grad_norm": "train",
            "val_loss": "val",
            "val_score": "val",
        }
        for name, value in record.items():
            if name != "step" and value is not None:
                tag = name.removeprefix("train_").removeprefix("val_")
                writer.add_scalar(f"{groups.get(name, 'plasticity')}/{tag}", value, self.step)
        validations = -(-self.config.steps // self.config.eval_every)
        every = self.config.eval_every * max(1, validations // _FIGURES)
        if self.step % every == 0 or self.step == self.config.steps:
            eta = probes.eta.numpy() if self.network.rule.plastic else None
            figure = episode_figure(self.task, self.validation, answers.numpy(), eta)
            writer.add_figure("episode", figure, self.step)
        writer.flush()

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _restore(self) -> None:
        content = self.folder.load_checkpoint("last")
        load_parameters(self.network, content, self.folder.checkpoint_path("last"))
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.best = content["step"], content["best"]
        self.seconds = content["seconds"]

    def _sample(self, num_episodes: int, *branch: int) -> Episodes:
        seed = np.random.SeedSequence(self.config.seed, spawn_key=branch)
        return self.task.sample_episodes(num_episodes, seed)

    def _not_finite(self, what: str) -> NonFiniteLossError:
        kept = self.folder.checkpoint_path("last")
        return NonFiniteLossError(
            f"stopped at step {self.step}: {what}. The last good checkpoint is {kept}. A smaller "
            f"learning rate (now {self.config.learning_rate:g}) or gradient bound may help."
        )


def default_folder(config: TrainConfig) -> Path:
    """Return where a run is kept if nobody says: `runs/TASK-RULE-CELL-HIDDEN-seedN`."""
    network = config.network
    name = f"{config.task}-{network.rule}-{network.cell}-{network.hidden_size}-seed{config.seed}"
    return Path("runs") / name
