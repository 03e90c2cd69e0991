"""Tasks of one's own are registered and made like those that come with the package."""

import dataclasses
import pickle
import sys
import types

import gymnasium as gym
import numpy as np
import pytest

from plastic_envs import (
    SequenceTask,
    TaskEnv,
    TaskVectorEnv,
    ids,
    make_task,
    register_task,
)
from plastic_envs.tasks import Bandit, Copy
from tests.plastic_envs.players import same


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))


@dataclasses.dataclass(frozen=True)
class Longer(Copy):
    """A task of one's own."""

    length: int = 3
    more: int = 1


@pytest.mark.parametrize("task", [Longer, f"{__name__}:Longer"], ids=["class", "string"])
def test_a_class_and_its_place_are_the_same(task):
    register_task("Own/Longer-v0", task)
    spec = gym.spec("Own/Longer-v0")
    assert spec.kwargs == {"task": f"{__name__}:Longer"}
    again = gym.envs.registration.EnvSpec.from_json(spec.to_json())
    env = gym.make("Own/Longer-v0", length=2)
    assert env.unwrapped.task == make_task("Own/Longer-v0", length=2) == Longer(length=2)
    assert gym.make(again).unwrapped.task == Longer()
    assert gym.make_vec(pickle.loads(pickle.dumps(spec)), num_envs=2).unwrapped.task == Longer()
    assert ids()[-1] == "Own/Longer-v0"


def test_a_class_that_has_no_place_serves_as_itself():
    @dataclasses.dataclass(frozen=True)
    class Local(Bandit):
        num_arms: int = 3

    register_task("Local-v0", Local)
    assert ids()[-1] == "Local-v0"
    env = gym.make("Local-v0", num_trials=4)
    assert env.unwrapped.task == make_task("Local-v0", num_trials=4) == Local(num_trials=4)
    envs = gym.make_vec("Local-v0", num_envs=2)
    assert same(envs.reset(seed=0), gym.make_vec(envs.spec).reset(seed=0))
    assert not envs.step([2, 0])[2].any()


def test_a_module_that_registers_is_imported_by_its_id(monkeypatch):
    module = types.ModuleType("own_tasks_of_a_test")
    module.Longer = Longer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    register_task("Named-v0", Longer)
    assert make_task("own_tasks_of_a_test:Named-v0") == Longer()
    with pytest.raises(ValueError, match="there is no module 'absent_module'"):
        make_task("absent_module:Named-v0")


@pytest.mark.parametrize("name", ["observe", "step"])
def test_a_sequence_task_cannot_show_or_tell_anything_else(name):
    with pytest.raises(TypeError, match=f"Other must not define {name}: .* derive from Task"):
        type("Other", (Copy,), {name: lambda *_: None})


class Incomplete(SequenceTask):
    """Has nothing."""


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Copy(), r"class derived from .*, got Copy\("),
        (int, "class derived from Task, or .* got <class 'int'>"),
        (None, "class derived from .* got None"),
        ([], r"class derived from .* got \[\]"),
        (Incomplete, "Incomplete lacks .*num_steps"),
        ("", "task must be a task class or 'module:Class', got ''"),
        (
            "plastic_envs.tasks.sequences.copy.Copy",
            "'module:Class', got 'plastic_envs.tasks.sequences.copy.Copy'",
        ),
        ("plastic_envs.tasks.sequences.copy:", "'module:Class'"),
        (":Copy", "'module:Class'"),
    ],
    ids=str,
)
def test_what_is_no_task_class_is_not_registered(task, message):
    before = ids()
    with pytest.raises(ValueError, match=message):
        register_task("None-v0", task)
    assert ids() == before
    assert "None-v0" not in gym.registry


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("absent_module:Copy", "there is no module 'absent_module'"),
        ("plastic_envs.absent:Copy", "there is no module 'plastic_envs.absent'"),
        (
            "plastic_envs.tasks.sequences.copy:Absent",
            "plastic_envs.tasks.sequences.copy has no 'Absent'",
        ),
        ("plastic_envs.tasks.sequences.copy:box", "class derived from"),
        ("plastic_envs:TaskEnv", "class derived from"),
        ("..:Copy", "there is no module '..'"),
    ],
)
@pytest.mark.parametrize("make", [make_task, gym.make, gym.make_vec])
def test_a_place_without_a_task_class_is_told_when_it_is_needed(make, place, message):
    register_task("Lost-v0", place)
    with pytest.raises(ValueError, match=message):
        make("Lost-v0")


def test_what_a_module_itself_lacks_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "needs_absent.py").write_text("import absent_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    register_task("Needs-v0", "needs_absent:Copy")
    with pytest.raises(ModuleNotFoundError, match="absent_dependency"):
        make_task("Needs-v0")


@pytest.mark.parametrize(
    "env_id", [None, 3, [], "Copy", "a" * 10_000, ":"], ids=lambda v: str(v)[:9]
)
def test_an_id_that_is_none_is_refused(env_id):
    with pytest.raises(ValueError, match=r"^env_id must be") as caught:
        make_task(env_id)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("env_id", [None, 3, [], 1j, b"Copy-v0"], ids=str)
def test_what_is_no_text_is_not_registered(env_id):
    before = ids()
    with pytest.raises(ValueError, match="env_id must be a text, got"):
        register_task(env_id, Copy)
    assert ids() == before


@pytest.mark.parametrize("task", ["", "rnn", ":", "x" * 9_000 + ":" + "x" * 9_000, "\0:x", 3, int])
@pytest.mark.parametrize("make", [TaskEnv, TaskVectorEnv], ids=str)
def test_a_task_that_is_none_is_refused_by_name(make, task):
    with pytest.raises(ValueError, match=r"^task must be") as caught:
        make(task)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("env_id", ids())
def test_unknown_arguments_are_errors_of_type_as_in_python(env_id):
    task = make_task(env_id)
    for ask in (
        lambda: make_task(env_id, frameskip=1),
        lambda: gym.make(env_id, frameskip=1),
        lambda: gym.make_vec(env_id, num_envs=2, frameskip=1),
        lambda: type(task)(frameskip=1),
        lambda: type(gym.make(env_id).unwrapped)(task, frameskip=1),
        lambda: type(gym.make_vec(env_id).unwrapped)(task, frameskip=1),
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'"):
            ask()


@pytest.mark.parametrize("env_id", ids())
def test_what_other_libraries_rely_on(env_id):
    env = gym.make(env_id).unwrapped
    assert env.spec.id == env_id
    assert env.metadata["render_fps"] > 0
    env.reset(seed=3)
    assert env.np_random_seed == 3
    keys = None
    for _ in range(env.task.num_steps):
        info = env.step(env.action_space.sample())[4]
        keys = keys or list(info)
        assert list(info) == keys
        assert all(np.asarray(value).dtype != object for value in info.values())
        assert all(hasattr(value, "dtype") for value in info.values())
    env.close()
    env.close()
    envs = gym.make_vec(env_id, num_envs=2).unwrapped
    envs.close()
    envs.close()
    assert envs.spec.id == env_id
    for name in ("num_envs", "autoreset_mode", "render_mode", "single_action_space", "closed"):
        assert hasattr(envs, name)


@pytest.mark.parametrize("vector", [False, True], ids=["single", "both"])
def test_registered_with_gymnasium_alone(vector):
    like = gym.spec("PlasticFewShot-v0")
    gym.register(
        "Plain-v0",
        entry_point=like.entry_point,
        vector_entry_point=like.vector_entry_point if vector else None,
        kwargs=like.kwargs | {"n_way": 3},
    )
    assert "Plain-v0" in ids()
    task = make_task("Plain-v0", split="test")
    assert task == make_task("PlasticFewShot-v0", n_way=3, split="test")
    assert gym.make_vec("Plain-v0", num_envs=2).reset()[0]["label"].shape == (2, 3)
    del gym.envs.registration.registry["Plain-v0"]
    assert "Plain-v0" not in ids()


def test_ids_are_those_registered_with_gymnasium():
    registered = sorted(name for name in gym.registry if name.startswith("Plastic"))
    assert sorted(ids()) == registered
    ids().clear()
    assert sorted(ids()) == registered
