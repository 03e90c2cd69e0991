"""Every program shows the classes of its own split, in supervised and reinforcement learning."""

from dataclasses import dataclass, fields

import gymnasium as gym
import pytest

from plastic_envs.registration import register_task
from plastic_envs.tasks import Copy, FewShot
from train.experiments.job import score
from train.figures import runs as plot
from train.figures.recording import record
from train.figures.runs import plot_runs
from train.parts import find_task
from train.reinforcement import training as reinforcement
from train.runs.run_folder import RLRunFolder
from train.scoring import agents as rl_evaluation
from train.scoring.evaluation import evaluate
from train.scoring.networks import probe_eta
from train.splits import task_for
from train.supervised import training as supervised


@dataclass(frozen=True)
class SplitCopy(Copy):
    """A task with an argument `split` that says nothing of `for_split`."""

    split: str = "train"


@pytest.fixture
def seen(monkeypatch):
    """Return the splits, and the classes by the first pixel, of all episodes that are built."""
    splits, classes = [], set()
    original = FewShot._indexed

    def noting(self, draws):
        episodes = original(self, draws)
        splits.append(self.split)
        classes.update(self.images.images[episodes.indices][..., 0, 0, 0].ravel().tolist())
        return episodes

    monkeypatch.setattr(FewShot, "_indexed", noting)

    def take():
        found = set(splits), set(classes)
        splits.clear()
        classes.clear()
        return found

    return take


@pytest.fixture
def make_few_shot_agent(make_rl_run, image_file):
    """Return a function that makes an agent's run on images, by any id."""

    def make(env="PlasticFewShot-v0", **settings):
        images = {"n_way": 3, "n_query": 3, "source": "arrays", "root": str(image_file)}
        settings = {"env_kwargs": images, "previous_action_reward": False, "steps": 48} | settings
        return make_rl_run(env, **settings)

    return make


def assert_of(found, classes_of, *splits):
    assert found[0] == set(splits)
    assert found[1] <= set().union(*(classes_of[split] for split in splits))


def test_supervised_programs_show_their_split(make_run, seen, classes_of, tmp_path, monkeypatch):
    folder = make_run(task="few-shot")
    monkeypatch.setattr(supervised._Training, "_log", lambda *_: None)
    seen()
    sampled = []
    monkeypatch.setattr(
        supervised._Training,
        "_validate",
        lambda self: sampled.append(seen()) or {"val_score": 0.0},
    )
    config = folder.config()
    with pytest.raises(IndexError):  # nothing was logged
        supervised.train_network(config, type(folder)(tmp_path / "run"), progress=False)
    assert_of(sampled[0], classes_of, "validation")
    assert_of(sampled[1], classes_of, "train")
    for program in (
        lambda: evaluate(folder, num_episodes=4),
        lambda: score(folder, 4),
        lambda: probe_eta(folder, 4),
    ):
        program()
        assert_of(seen(), classes_of, "test")
    monkeypatch.setattr(plot, "comparison_figure", lambda *_: None)
    monkeypatch.setattr(plot, "save", lambda *_: None)
    plot_runs([folder], tmp_path / "figure.png")  # of scores in validation, and η in tests
    assert_of(seen(), classes_of, "validation", "test")


def test_reinforced_programs_show_their_split(
    make_few_shot_agent, seen, classes_of, tmp_path, monkeypatch
):
    run = make_few_shot_agent()
    seen()
    evaluated, original = [], rl_evaluation.measure

    def measuring(*arguments):
        before, result = seen(), original(*arguments)
        evaluated.append((before, seen()))
        return result

    monkeypatch.setattr(reinforcement, "measure", measuring)
    reinforcement.train_agent(run.config(), RLRunFolder(tmp_path / "run"), progress=False)
    assert_of(evaluated[0][1], classes_of, "validation")
    assert_of(evaluated[1][0], classes_of, "train")
    assert_of(evaluated[1][1], classes_of, "validation")
    seen()
    evaluate(run, num_episodes=4)
    assert_of(seen(), classes_of, "test")
    record(run, tmp_path / "episode.gif")
    assert_of(seen(), classes_of, "test")
    monkeypatch.setattr(plot, "comparison_figure", lambda *_: None)
    monkeypatch.setattr(plot, "save", lambda *_: None)
    plot_runs([run], tmp_path / "figure.png")
    assert_of(seen(), classes_of, "validation")


@pytest.fixture
def registered():
    """Register tasks of somebody else's under ids of their own."""
    names = {"TestShot-v0": "plastic_envs.tasks:FewShot", "TestSplit-v0": f"{__name__}:SplitCopy"}
    for env_id, task in names.items():
        register_task(env_id, task)
    yield
    for env_id in names:
        del gym.registry[env_id]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("env", ["TestShot-v0", "plastic_envs:TestShot-v0", "TestShot"])
def test_a_task_that_others_registered_is_one_of_ours(make_few_shot_agent, classes_of, seen, env):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gym.logger, "warn", lambda *_, **__: None)  # of an id without a version
        run = make_few_shot_agent(env)
        assert run.config().env_part.env_id == "TestShot-v0"
        seen()
        result = evaluate(run, num_episodes=4)
    assert_of(seen(), classes_of, "test")
    assert {"chance", "optimum"} & result["references"].keys()
    assert "first_query" in result


def test_the_split_is_not_among_the_arguments(make_few_shot_agent):
    images = {"n_way": 3, "split": "test"}
    with pytest.raises(ValueError, match="env_kwargs cannot set split: the programs do"):
        make_few_shot_agent(env_kwargs=images)


def test_a_split_is_taken_by_its_name_where_a_task_says_nothing_of_it():
    assert task_for(SplitCopy(), "test") == SplitCopy(split="test")
    assert task_for(Copy(), "test") == Copy()


def test_few_shot_runs_can_set_whatever_the_task_can():
    """But the split, which the programs choose."""
    theirs = {field.name for field in fields(FewShot)}
    assert theirs - find_task("few-shot").options.keys() == {"split"}
