import math

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from plastic_envs.spaces import at
from plastic_envs.tasks import SequenceTask
from tests.train.spread import spread
from train.runs.run_folder import RunFolder
from train.scoring.evaluation import evaluate
from train.scoring.objectives import SquaredError, masked_mean
from train.supervised.batches import batch_of
from train.supervised.training import NonFiniteLossError, loss_mask, train_network

FIELDS = [
    "step",
    "train_loss",
    "grad_norm",
    "val_loss",
    "val_score",
    "eta",
    "eta_before_clip",
    "decay",
    "write_norm",
    "inner_loss",
]


def start(config, path, **kwargs):
    folder = RunFolder(path)
    train_network(config, folder, progress=False, **kwargs)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        *spread(
            [
                {"rule": r, "cell": c}
                for r in ("gradient", "hebbian", "none")
                for c in ("rnn", "lstm")
            ],
            [{"rule": "gradient", "cell": "rnn"}, {"rule": "hebbian", "cell": "lstm"}],
        ),
        pytest.param({"task": "few-shot"}, marks=pytest.mark.slow),
        {"task": "few-shot", "encoder": "resnet12", "filters": 1},  # it drops at random
        {"task": "few-shot", "core": "prototypical", "augment": True},
    ],
    ids=str,
)
def test_the_same_seed_gives_the_same_run(
    make_run, make_config, tmp_path, assert_same_run, settings
):
    torch.manual_seed(4321)
    first = make_run(**settings)
    torch.manual_seed(1234)
    np.random.seed(1234)  # noqa: NPY002
    assert_same_run(first, start(make_config(**settings), tmp_path / "run"))


def test_another_seed_gives_another_run(make_run):
    first, second = make_run(), make_run(seed=1)
    for one, other in zip(first.metrics(), second.metrics(), strict=True):
        assert one["val_loss"] != other["val_loss"]
    parameters = [folder.load_checkpoint("best")["network"] for folder in (first, second)]
    for name in ("layers.encoder.weight", "layers.readout.weight"):
        assert not torch.equal(parameters[0][name], parameters[1][name])


@pytest.mark.parametrize("rule", ["gradient", "hebbian", "none"])
def test_a_record_has_all_fields_and_finite_numbers(make_run, rule):
    records = make_run(rule=rule).metrics()
    assert [record["step"] for record in records] == [0, 2, 4, 6]
    for record in records:
        assert list(record) == FIELDS
        absent = {"train_loss", "grad_norm"} if record["step"] == 0 else set()
        assert {name for name, value in record.items() if value is None} == absent
        assert all(math.isfinite(v) for v in record.values() if v is not None)
        assert record["write_norm"] > 0 or rule == "none"


def test_the_last_step_is_validated_even_off_the_beat(make_run):
    assert [r["step"] for r in make_run(steps=5).metrics()] == [0, 2, 4, 5]


def test_a_run_of_no_steps_scores_the_initial_network(make_run):
    folder = make_run(steps=0)
    assert [record["step"] for record in folder.metrics()] == [0]
    assert folder.load_network()[1] == 0


@pytest.mark.parametrize(
    ("best_of", "settings"),
    [
        (min, {"learning_rate": 3.0}),  # an error
        (max, {"task": "few-shot", "core": "prototypical", "learning_rate": 0.1, "seed": 2}),
    ],
    ids=str,
)
def test_the_best_checkpoint_is_the_one_with_the_best_validation_score(make_run, best_of, settings):
    folder = make_run(steps=8, **settings)
    scores = {record["step"]: record["val_score"] for record in folder.metrics()}
    best = best_of(scores, key=scores.get)
    assert best != 8, "the last one is best: this run shows nothing"
    assert folder.load_network("best")[1] == best
    assert folder.load_checkpoint("last")["best"] == {"step": best, "val_score": scores[best]}
    assert folder.load_network("last")[1] == 8


@pytest.mark.parametrize("task", ["copy", "cue-reward", "regression"])
@pytest.mark.parametrize("loss_on", ["task", "scored", "all"])
def test_validation_loss_and_score_are_those_of_the_checkpoint(make_run, task, loss_on):
    folder = make_run(task=task, loss_on=loss_on)
    config, (network, _) = folder.config(), folder.load_network("last")
    seed = np.random.SeedSequence(config.seed, spawn_key=(1,))
    episodes = config.task_for("test").sample_episodes(config.eval_episodes, seed)
    with torch.no_grad():
        answers = network(torch.from_numpy(episodes.observations))[0].numpy().astype(np.float64)
    errors = ((answers - episodes.targets) ** 2).mean(axis=-1)
    scored = errors[episodes.scored].mean()
    every = loss_on == "all" or (loss_on == "task" and task == "cue-reward")
    record = folder.metrics()[-1]
    assert record["val_score"] == pytest.approx(scored, rel=1e-5)
    assert record["val_loss"] == pytest.approx(errors.mean() if every else scored, rel=1e-5)


def test_the_loss_on_all_steps_differs_from_that_on_scored_ones(make_run):
    runs = {name: make_run(loss_on=name).metrics() for name in ("task", "scored", "all")}
    assert runs["task"] == runs["all"]  # cue-reward
    assert runs["all"][1]["train_loss"] != runs["scored"][1]["train_loss"]
    assert runs["all"][0]["val_score"] == runs["scored"][0]["val_score"]
    assert runs["all"][-1]["val_score"] != runs["scored"][-1]["val_score"]


@pytest.mark.parametrize("task", ["copy", "cue-reward", "regression"])
@pytest.mark.parametrize("loss_on", ["scored", "all"])
def test_the_masked_loss_is_the_mean_over_the_chosen_steps(make_config, task, loss_on):
    config = make_config(task, loss_on=loss_on)
    episodes = config.task_for("test").sample_episodes(5, 3)
    answers = torch.randn(episodes.targets.shape, generator=torch.Generator().manual_seed(0))
    total, count = 0.0, 0
    for b, t in np.ndindex(episodes.scored.shape):
        if loss_on == "all" or episodes.scored[b, t]:
            total += np.mean((answers[b, t].numpy() - episodes.targets[b, t]) ** 2)
            count += 1
    batch = batch_of(episodes)
    losses = SquaredError().losses(answers, batch.targets)
    loss = masked_mean(losses, loss_mask(config, batch))
    assert loss.item() == pytest.approx(total / count, rel=1e-5)


def test_the_masked_loss_averages_the_entries_of_an_answer():
    answers, targets = torch.tensor([[[1.0, 3.0], [9.0, 9.0]]]), torch.zeros(1, 2, 2)
    losses = SquaredError().losses(answers, targets)
    assert masked_mean(losses, torch.tensor([[True, False]])).item() == 5


def test_the_first_step_is_adamw_with_a_bounded_gradient_on_the_masked_loss(make_run):
    config = make_run(max_grad_norm=0.05, weight_decay=0.1, steps=1).config()
    folder = make_run(max_grad_norm=0.05, weight_decay=0.1, steps=1)
    network = config.network.build(config.task_for("test"), config.seed)
    seed = np.random.SeedSequence(config.seed, spawn_key=(0, 0))
    episodes = config.task_for("test").sample_episodes(config.batch_size, seed)
    answers, _ = network(torch.from_numpy(episodes.observations))
    loss = (answers - torch.from_numpy(episodes.targets)).square().mean()
    loss.backward()
    grads = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in grads.values()))
    after = folder.load_checkpoint("last")["network"]
    for name, before in network.state_dict().items():
        grad = grads[name] * 0.05 / norm
        step = 1e-3 * (grad / (grad.abs() + 1e-8) + 0.1 * before)
        torch.testing.assert_close(after[name], before - step, rtol=1e-4, atol=1e-6)
    record = folder.metrics()[-1]
    assert norm > 0.05
    assert record["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert record["train_loss"] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("task", ["copy", "cue-reward", "few-shot", "regression"])
def test_no_episode_is_drawn_twice(make_config, tmp_path, monkeypatch, task):
    drawn, original = [], SequenceTask.sample_episodes

    def record(self, num_episodes, seed=None):
        episodes = original(self, num_episodes, seed)
        for b in range(num_episodes):
            observations = at(episodes.observations, b)
            parts = observations.values() if isinstance(observations, dict) else [observations]
            drawn.append(b"".join(part.tobytes() for part in parts))
        return episodes

    monkeypatch.setattr(SequenceTask, "sample_episodes", record)
    folder = start(make_config(task, eval_episodes=200, batch_size=32), tmp_path / "run")
    before = len(drawn)
    assert len(set(drawn)) == 200 + 6 * 32  # pictures show a validation episode once more
    evaluate(folder, num_episodes=100)
    tested = set(drawn[before:])  # the acting environment may draw them as well
    assert len(tested) == 100
    assert len(set(drawn)) == 200 + 6 * 32 + 100


@pytest.mark.parametrize(
    "settings", [{}, {"task": "few-shot", "encoder": "resnet12", "filters": 1}], ids=str
)
def test_training_leaves_the_global_random_state_alone(make_config, tmp_path, settings):
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    start(make_config(**settings), tmp_path / "run")
    assert torch.equal(before[0], torch.get_rng_state())
    for one, other in zip(before[1], np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rule", spread(["gradient", "hebbian", "none"], {"gradient"}))
def test_a_tiny_task_is_learned(make_config, tmp_path, rule):
    config = make_config(
        "copy",
        length=1,
        rule=rule,
        hidden_size=16,
        steps=150,
        batch_size=32,
        learning_rate=1e-2,
        eval_every=50,
        eval_episodes=100,
    )
    scores = [r["val_score"] for r in start(config, tmp_path / "run").metrics()]
    assert scores[0] > 0.25
    assert scores[-1] < 0.03


def test_an_enormous_learning_rate_is_reported_and_the_checkpoint_stays_good(make_config, tmp_path):
    folder = RunFolder(tmp_path / "run")
    config = make_config(learning_rate=1e30, steps=10)
    with pytest.raises(NonFiniteLossError, match=r"step \d+: .* loss is") as caught:
        train_network(config, folder, progress=False)
    assert str(folder.checkpoint_path("last")) in str(caught.value)
    network, _ = folder.load_network("last")
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    assert folder.metrics()[-1]["step"] == folder.load_checkpoint("last")["step"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("failing_step", [1, 2, 5])
def test_a_loss_that_is_not_finite_stops_before_the_parameters_are_touched(
    make_config, make_run, tmp_path, monkeypatch, bad, failing_step
):
    folder, calls, original = RunFolder(tmp_path / "run"), [], masked_mean

    def spoiled(losses, mask):
        loss = original(losses, mask)
        calls.append(losses.requires_grad)
        return loss * bad if sum(calls) == failing_step + 1 and calls[-1] else loss

    monkeypatch.setattr("train.supervised.training.masked_mean", spoiled)
    with pytest.raises(NonFiniteLossError, match=f"step {failing_step}: the training loss"):
        train_network(make_config(), folder, progress=False)
    kept = failing_step // 2 * 2
    assert folder.load_checkpoint("last")["step"] == kept
    assert folder.metrics() == make_run().metrics()[: kept // 2 + 1]


def test_tensorboard_has_the_metrics_and_a_figure(
    make_config, tmp_path, monkeypatch, small_figures
):
    monkeypatch.setattr("train.supervised.training.episode_figure", small_figures)
    run = start(make_config(), tmp_path / "run")
    events = EventAccumulator(str(run.path)).Reload()
    tags = events.Tags()
    groups = {"train": ["loss", "grad_norm"], "val": ["loss", "score"]}
    groups["probe"] = ["eta", "eta_before_clip", "decay", "write_norm", "inner_loss"]
    assert set(tags["scalars"]) == {f"{g}/{name}" for g, found in groups.items() for name in found}
    assert tags["images"] == ["episode"]
    assert [image.step for image in events.Images("episode")] == [0, 2, 4, 6]
    assert all(image.width > 300 for image in events.Images("episode"))
    logged = [(event.step, event.value) for event in events.Scalars("val/score")]
    expected = [(record["step"], record["val_score"]) for record in run.metrics()]
    assert logged == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]


def test_the_step_size_falls_along_a_cosine(make_config, tmp_path, monkeypatch):
    used, original = [], torch.optim.AdamW.step

    def record(self):
        used.extend(group["lr"] for group in self.param_groups)
        return original(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    start(make_config(schedule="cosine", learning_rate=0.02), tmp_path / "cosine")
    expected = [0.02 * math.cos(math.pi / 2 * step / 6) ** 2 for step in range(6)]
    assert used == pytest.approx(expected)
    assert used[0] == 0.02
    used.clear()
    start(make_config(learning_rate=0.02), tmp_path / "constant")
    assert used == [0.02] * 6


def test_timing_is_kept_apart_from_what_can_be_reproduced(run):
    lines = run.timing_path.read_text().splitlines()
    assert len(lines) == len(run.metrics())
    assert "seconds" not in run.metrics_path.read_text()
    busy = [record["cpu_seconds"] for record in run.timing()]
    assert busy == sorted(busy)
    assert run.cpu_seconds() == busy[-1] > 0
