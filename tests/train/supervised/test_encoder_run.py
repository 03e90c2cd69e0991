"""Runs that start with the image encoder of another: what is taken over, kept and trained."""

import json
import re

import numpy as np
import pytest
import torch

from agents import ImageEmbedder, ImageLabelEncoder
from train.runs.run_folder import RunFolder
from train.scoring.evaluation import evaluate
from train.supervised import training as supervised
from train.supervised.batches import whole
from train.supervised.encoders import image_encoder_of, load_image_encoder
from train.supervised.training import train_network

PREFIX = "encoder.image_encoder."


def state_of(network):
    return image_encoder_of(network).image_encoder.state_dict()


def same(left, right):
    assert left.keys() == right.keys()
    return [name for name in left if torch.equal(left[name], right[name])]


@pytest.fixture
def given(encoder_run):
    """The encoder that is taken over: that of the best checkpoint."""
    best, last = (state_of(encoder_run.load_network(name)[0]) for name in ("best", "last"))
    assert same(best, last) == [], "the best is the last: these runs show nothing"
    return best


@pytest.fixture
def make_from(make_run, encoder_run):
    """Return a function that makes a finished run with the encoder of `encoder_run`."""

    def make(**settings):
        return make_run(task="few-shot", encoder_run=str(encoder_run.path), **settings)

    return make


@pytest.mark.parametrize("name", ["best", "last"])
@pytest.mark.parametrize("settings", [{}, {"rule": "none", "cell": "lstm"}], ids=str)
def test_a_frozen_encoder_stays_that_of_the_other_run(make_from, given, name, settings):
    network, _ = make_from(learning_rate=1e-2, **settings).load_network(name)
    assert same(state_of(network), given) == list(given)  # parameters and buffers


def test_beside_a_frozen_encoder_all_else_is_trained(make_from):
    folder = make_from(learning_rate=1e-2)
    config = folder.config()
    before = dict(config.network.build(config.task_for("train"), config.seed).named_parameters())
    after = folder.load_checkpoint("last")["network"]
    trained = [n for n, p in before.items() if p.requires_grad and not n.startswith(PREFIX)]
    assert {"encoder.projection.weight", "encoder.projection.bias"} <= set(trained)
    assert [name for name in trained if torch.equal(before[name], after[name])] == []


def test_a_frozen_encoder_is_normalised_over_all_training_images(make_from):
    folder = make_from()
    network, _ = folder.load_network("last")
    images = torch.from_numpy(folder.config().task_for("train").images.images.copy())
    with torch.no_grad():
        rows = network.encoder.image_encoder(images.permute(0, 3, 1, 2).float() / 255).double()
    normal = network.encoder.normalisation
    torch.testing.assert_close(normal.running_mean.double(), rows.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(normal.running_var.double(), rows.var(0), rtol=1e-4, atol=1e-5)


def test_a_frozen_encoder_sees_each_image_once(make_config, tmp_path, encoder_run, monkeypatch):
    config = make_config("few-shot", encoder_run=str(encoder_run.path))
    calls, original = [], ImageEmbedder.embed

    def record(self, images, *args):
        calls.append(images)
        return original(self, images, *args)

    monkeypatch.setattr(ImageEmbedder, "embed", record)
    train_network(config, RunFolder(tmp_path), progress=False)
    assert len(calls) == 2
    for images, split in zip(calls, ("train", "validation"), strict=True):
        np.testing.assert_array_equal(images, config.task_for(split).images.images)


def test_embeddings_are_of_the_classes_of_their_split(
    make_config, tmp_path, encoder_run, monkeypatch
):
    config, shown = make_config("few-shot", encoder_run=str(encoder_run.path)), []
    original = ImageLabelEncoder.embeddings_and_labels

    def record(self, inputs):
        shown.extend((self.training, row) for row in inputs["embedding"].flatten(end_dim=1))
        return original(self, inputs)

    monkeypatch.setattr(ImageLabelEncoder, "embeddings_and_labels", record)
    train_network(config, RunFolder(tmp_path), progress=False)
    monkeypatch.undo()
    encoder = image_encoder_of(RunFolder(tmp_path).load_network()[0])
    known = {
        training: {row.numpy().tobytes() for row in encoder.embed(config.task_for(s).images.images)}
        for training, s in ((True, "train"), (False, "validation"))
    }
    assert known[True].isdisjoint(known[False])
    assert {training for training, _ in shown} == {True, False}
    assert all(row.numpy().tobytes() in known[training] for training, row in shown)


def test_a_run_on_embeddings_is_that_on_images(
    make_config, make_from, tmp_path, encoder_run, monkeypatch
):
    original = supervised._Training._sampler

    def sampler(self, task):
        original(self, task)  # it also sets the normalisation
        return whole(task)

    monkeypatch.setattr(supervised._Training, "_sampler", sampler)
    folder = RunFolder(tmp_path)
    config = make_config("few-shot", encoder_run=str(encoder_run.path))
    train_network(config, folder, progress=False)
    monkeypatch.undo()
    for on_images, on_embeddings in zip(folder.metrics(), make_from().metrics(), strict=True):
        assert on_images.keys() == on_embeddings.keys()
        for name, value in on_images.items():
            other = on_embeddings[name]
            assert value == (value if other is None else pytest.approx(other, rel=1e-4)), name


@pytest.mark.parametrize("settings", [{}, {"fine_tune": True}], ids=str)
def test_acting_on_images_agrees_with_whole_episodes(make_from, settings):
    result = evaluate(make_from(learning_rate=1e-2, **settings), num_episodes=20)
    assert result["agree"] is True
    assert result["score"] == pytest.approx(result["score_supervised"])


@pytest.mark.parametrize("core", ["plastic", "prototypical"])
def test_fine_tuning_starts_with_the_encoder_of_the_other_run_and_changes_it(
    make_from, given, core
):
    settings = {"fine_tune": True, "core": core, "learning_rate": 1e-2}
    start, _ = make_from(steps=0, **settings).load_network("last")
    assert same(state_of(start), given) == list(given)
    end, _ = make_from(steps=4, **settings).load_network("last")
    assert same(state_of(end), given) == []


def test_without_the_other_run_the_encoder_is_drawn_from_the_seed(make_run, given):
    start, _ = make_run(task="few-shot", steps=0).load_network("last")
    weights = [name for name in given if name.endswith(".0.weight")]
    assert weights
    assert set(same(state_of(start), given)).isdisjoint(weights)


def test_what_is_taken_over_is_a_copy(make_from, encoder_run, given):
    make_from(fine_tune=True, learning_rate=1e-2)
    assert same(state_of(encoder_run.load_network()[0]), given) == list(given)


def test_an_encoder_for_larger_images_fits(make_config, encoder_run, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "larger.npz"
    np.savez(
        path, images=rng.integers(0, 256, (96, 18, 16)).astype(np.uint8), labels=np.arange(96) % 16
    )
    config = make_config("few-shot", encoder_run=str(encoder_run.path), root=str(path), steps=1)
    train_network(config, RunFolder(tmp_path / "run"), progress=False)
    assert evaluate(RunFolder(tmp_path / "run"), num_episodes=4)["agree"]


@pytest.mark.parametrize(
    "settings",
    [{"filters": 5}, {"encoder": "resnet12"}, {"encoder": "resnet12", "fine_tune": True}],
    ids=str,
)
def test_an_encoder_that_does_not_fit_is_told_with_its_settings(
    make_config, tmp_path, encoder_run, settings
):
    config = make_config("few-shot", encoder_run=str(encoder_run.path), **settings)
    folder = RunFolder(tmp_path / "run")
    expected = f"{re.escape(str(encoder_run.path))} does not fit .* --encoder conv4 --filters 4"
    with pytest.raises(ValueError, match=expected):
        train_network(config, folder, progress=False)
    assert not folder.path.exists()


def test_an_encoder_of_other_channels_is_told(make_config, tmp_path, encoder_run):
    path = tmp_path / "coloured.npz"
    np.savez(path, images=np.zeros((96, 16, 16, 3), np.uint8), labels=np.arange(96) % 16)
    config = make_config("few-shot", encoder_run=str(encoder_run.path), root=str(path))
    with pytest.raises(ValueError, match="images of 1 channel"):
        train_network(config, RunFolder(tmp_path / "run"), progress=False)


@pytest.mark.parametrize("fine_tune", [False, True])
def test_a_run_that_is_not_there_is_named(make_config, tmp_path, fine_tune):
    absent, folder = tmp_path / "absent", RunFolder(tmp_path / "run")
    config = make_config("few-shot", encoder_run=str(absent), fine_tune=fine_tune)
    with pytest.raises(FileNotFoundError, match=f"{re.escape(str(absent))} is no run folder"):
        train_network(config, folder, progress=False)
    assert not folder.path.exists()


def test_a_run_without_a_checkpoint_is_named(make_config, tmp_path):
    other = RunFolder(tmp_path / "other")
    other.create(make_config("few-shot"))
    config = make_config("few-shot", encoder_run=str(other.path))
    with pytest.raises(FileNotFoundError, match=r"best\.pt does not exist: .*the run has not come"):
        train_network(config, RunFolder(tmp_path / "run"), progress=False)


def test_a_run_without_images_is_named(make_config, make_run, tmp_path):
    other = make_run()
    config = make_config("few-shot", encoder_run=str(other.path))
    expected = f"{re.escape(str(other.path))} is a run of cue-reward: it has no image encoder"
    with pytest.raises(ValueError, match=expected):
        train_network(config, RunFolder(tmp_path / "run"), progress=False)


def test_a_network_without_images_takes_no_encoder(make_config, encoder_run):
    config = make_config()
    network = config.network.build(config.task_for("train"), 0)
    with pytest.raises(ValueError, match="the network has no image encoder"):
        load_image_encoder(network, encoder_run)


def test_the_settings_name_the_other_run(make_from, encoder_run):
    folder = make_from()
    assert json.loads(folder.config_path.read_text())["encoder_run"] == str(encoder_run.path)
    assert folder.config().frozen
    assert not make_from(fine_tune=True).config().frozen
