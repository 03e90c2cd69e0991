"""Few-shot runs: which classes are shown when, what is measured, and by which formula."""

import math

import numpy as np
import pytest
import torch

from agents import ImageEmbedder, PrototypicalNetwork
from train.runs.run_folder import RunFolder
from train.scoring.evaluation import evaluate
from train.supervised.batches import inputs_of
from train.supervised.training import train_network

MODELS = [
    {},
    {"core": "prototypical"},
    {"core": "prototypical", "label_mode": "delayed", "delayed": True},
]
PLASTICITY = ["eta", "eta_before_clip", "decay", "write_norm", "inner_loss"]


@pytest.fixture
def shown(monkeypatch):
    """The classes of the images that networks were given: in training (True) and otherwise."""
    found, original = {True: set(), False: set()}, ImageEmbedder.embeddings_and_labels

    def record(self, inputs):
        found[self.training] |= set(inputs["image"][..., 0, 0, 0].unique().tolist())
        return original(self, inputs)

    monkeypatch.setattr(ImageEmbedder, "embeddings_and_labels", record)
    return found


def played(folder, num_episodes, seed, split="test"):
    """Logits, targets and scored steps of whole episodes, on the best checkpoint."""
    config, (network, _) = folder.config(), folder.load_network("best")
    episodes = config.task_for(split).sample_episodes(num_episodes, seed)
    with torch.no_grad():
        logits, _ = network(inputs_of(episodes.observations))
    return logits.double().numpy(), episodes


@pytest.mark.parametrize("settings", MODELS, ids=str)
def test_each_split_has_its_own_classes(make_config, tmp_path, shown, classes_of, settings):
    folder = RunFolder(tmp_path)
    train_network(make_config("few-shot", **settings), folder, progress=False)
    assert shown == {True: classes_of["train"], False: classes_of["validation"]}
    shown[True], shown[False] = set(), set()
    evaluate(folder, num_episodes=20)
    assert shown == {True: set(), False: classes_of["test"]}


def test_augmented_images_are_for_training_alone(make_config, tmp_path, shown, classes_of):
    train_network(make_config("few-shot", augment=True), RunFolder(tmp_path), progress=False)
    assert not shown[True] <= classes_of["train"]  # the first pixel is no longer the class
    assert shown[False] == classes_of["validation"]


@pytest.mark.parametrize("settings", MODELS, ids=str)
def test_a_record_has_accuracies_and_those_of_plasticity_where_there_is_any(make_run, settings):
    folder = make_run(task="few-shot", **settings)
    fields = ["step", "train_loss", "grad_norm", "val_loss", "val_score", "val_first_query"]
    if not settings:
        fields += PLASTICITY
    for record in folder.metrics():
        assert list(record) == fields
        assert 0 <= record["val_score"] <= 1
        assert 0 <= record["val_first_query"] <= 1
        assert all(math.isfinite(v) for v in record.values() if v is not None)


@pytest.mark.parametrize("loss_on", ["task", "all"])
@pytest.mark.parametrize("settings", MODELS, ids=str)
def test_validation_is_cross_entropy_and_accuracy_of_the_checkpoint(make_run, settings, loss_on):
    folder = make_run(task="few-shot", loss_on=loss_on, **settings)
    seed = np.random.SeedSequence(folder.config().seed, spawn_key=(1,))
    logits, episodes = played(folder, 8, seed, "validation")
    losses, right, first = [], [], []
    for b in range(8):
        assert episodes.scored[b].tolist() == [False] * 3 + [True] * 3
        for t in range(6):
            target = episodes.targets[b, t]
            if loss_on == "all" or episodes.scored[b, t]:
                losses.append(np.log(np.exp(logits[b, t] - logits[b, t, target]).sum()))
            if episodes.scored[b, t]:
                right.append(logits[b, t].argmax() == target)
        first.append(logits[b, 3].argmax() == episodes.targets[b, 3])
    record = next(r for r in folder.metrics() if r["step"] == folder.load_network("best")[1])
    assert record["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert record["val_score"] == pytest.approx(np.mean(right))
    assert record["val_first_query"] == pytest.approx(np.mean(first))


@pytest.mark.parametrize("settings", MODELS, ids=str)
def test_a_result_has_the_accuracies_of_the_test_episodes(make_run, settings):
    folder = make_run(task="few-shot", **settings)
    result = evaluate(folder, num_episodes=30, seed=5)
    logits, episodes = played(folder, 30, 5)
    right = logits.argmax(axis=-1) == episodes.targets
    assert result["agree"] is True
    assert result["max_difference"] < 1e-4
    for name, interval, values in (
        ("score", "interval", right[:, 3:].mean(axis=1)),
        ("first_query", "first_query_interval", right[:, 3].astype(float)),
    ):
        deviation = math.sqrt(((values - values.mean()) ** 2).sum() / 29)
        assert deviation > 0
        assert result[name] == pytest.approx(values.mean())
        assert result[interval] == pytest.approx(1.96 * deviation / math.sqrt(30))
    assert result["score_supervised"] == pytest.approx(result["score"])
    assert result["chance"] == pytest.approx(1 / 3)
    assert result["optimum"] is None


def test_the_oracle_is_the_nearest_neighbour_on_pixels_and_more_is_better(make_run):
    folder = make_run(task="few-shot")
    result = evaluate(folder, num_episodes=10, seed=5)
    _, episodes = played(folder, 10, 5)
    images = episodes.observations["image"].astype(float)
    right = [
        episodes.targets[b, np.square(images[b, :3] - images[b, t]).sum((1, 2, 3)).argmin()]
        == episodes.targets[b, t]
        for b in range(10)
        for t in range(3, 6)
    ]
    assert result["oracle"] == pytest.approx(np.mean(right))
    assert result["oracle"] > 0.9 > result["chance"]  # classes differ by more than their images
    assert folder.config().task_for("test").higher_is_better


def test_a_prototypical_network_is_told_by_its_encoder(make_run):
    folder = make_run(task="few-shot", core="prototypical")
    assert isinstance(folder.load_network()[0], PrototypicalNetwork)
    result = evaluate(folder, num_episodes=2)
    found = {name: result[name] for name in ("core", "encoder", "filters")}
    assert found == {"core": "prototypical", "encoder": "conv4", "filters": 4}


@pytest.mark.parametrize(
    "settings", [{}, {"core": "prototypical"}, {"encoder": "resnet12", "filters": 1}], ids=str
)
def test_every_trained_parameter_moves(make_run, settings):
    folder = make_run(task="few-shot", learning_rate=1e-2, **settings)
    config = folder.config()
    before = dict(config.network.build(config.task_for("train"), config.seed).named_parameters())
    after = folder.load_checkpoint("last")["network"]
    for name, parameter in before.items():
        assert torch.equal(after[name], parameter) is not parameter.requires_grad, name


def test_each_training_step_drops_by_a_seed_of_its_own(make_config, tmp_path, monkeypatch):
    original, used = ImageEmbedder.embeddings_and_labels, []

    def record(self, inputs):
        if self.training:
            used.append(torch.initial_seed())
        return original(self, inputs)

    monkeypatch.setattr(ImageEmbedder, "embeddings_and_labels", record)
    for seed in (0, 0, 1):
        config = make_config("few-shot", encoder="resnet12", filters=1, steps=3, seed=seed)
        train_network(config, RunFolder(tmp_path / str(len(used))), progress=False)
    first, same, other = used[:3], used[3:6], used[6:]
    assert first == same
    assert len({*first, *other}) == 6


def test_the_training_classes_of_a_tiny_task_are_learned(make_config, tmp_path):
    config = make_config(
        "few-shot",
        core="prototypical",
        filters=16,
        steps=60,
        batch_size=16,
        learning_rate=1e-2,
        schedule="cosine",
        eval_every=10,
    )
    folder = RunFolder(tmp_path)
    train_network(config, folder, progress=False)
    losses = [record["train_loss"] for record in folder.metrics()[1:]]
    assert losses[-1] < 0.2 * losses[0]
