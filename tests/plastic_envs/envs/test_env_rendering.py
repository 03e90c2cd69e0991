import gymnasium as gym
import numpy as np
import pytest

from plastic_envs import make_task, rendering
from plastic_envs.rendering import EpisodeView, pixels


def start(env_id, mode, num_envs=None, **kwargs):
    if num_envs is None:
        env = gym.make(env_id, render_mode=mode, **kwargs).unwrapped
    else:
        env = gym.make_vec(env_id, num_envs=num_envs, render_mode=mode, **kwargs)
    env.reset(seed=5)
    return env


def cells(line):
    """Split a line of the table into step, mark and columns."""
    step, *rest = line.split()
    marked = rest[0] == "*"
    return int(step), marked, rest[1:] if marked else rest


def test_a_picture_has_the_declared_form(variant):
    env_id, kwargs = variant
    env = start(env_id, "rgb_array", **kwargs)
    frame = env.render()
    assert frame.shape == (480, 720, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 10


def test_the_picture_changes_as_the_episode_goes_on():
    env = start("PlasticCopy-v0", "rgb_array", length=1, delay=1)
    frames = [env.render()]
    np.testing.assert_array_equal(env.render(), frames[0])
    for _ in range(3):
        env.step(np.full(1, 0.5, np.float32))
        frames.append(env.render())
    for k, frame in enumerate(frames):
        assert all(not np.array_equal(frame, later) for later in frames[k + 1 :])


def test_the_picture_shows_the_answer():
    frames = []
    for answer in (-0.5, 0.5):
        env = start("PlasticCopy-v0", "rgb_array", length=1)
        env.step(np.full(1, answer, np.float32))
        frames.append(env.render())
    assert not np.array_equal(*frames)


def test_a_frame_is_the_callers_own():
    env = start("PlasticCopy-v0", "rgb_array")
    frame = env.render()
    kept = frame.copy()
    frame[...] = 0
    np.testing.assert_array_equal(env.render(), kept)


def test_the_text_tells_the_steps_so_far_and_nothing_of_what_is_to_come(real_valued):
    env_id, kwargs = real_valued
    task = make_task(env_id, **kwargs)
    episode = [array[0] for array in task.sample_episodes(1, seed=5)]
    env = start(env_id, "ansi", **kwargs)
    actions = np.random.default_rng(0).uniform(-1, 1, episode[1].shape).astype(np.float32)
    rewards = []
    for done in range(task.num_steps + 1):
        lines = env.render().splitlines()
        seen = min(done + 1, task.num_steps)
        assert len(lines) == 1 + seen + 1
        assert lines[-1] == f"return {sum(rewards):.3f} after {done} of {task.num_steps} steps"
        for t, line in enumerate(lines[1:-1]):
            step, marked, columns = cells(line)
            values = list(episode[0][t])
            hidden = 2 * task.action_space.shape[0] + 1
            if t < done:
                values += [*episode[1][t], *actions[t], rewards[t]]
                hidden = 0
            assert step == t
            assert marked == episode[2][t]
            assert columns == [f"{value:.2f}" for value in values] + ["·"] * hidden
        if done < task.num_steps:
            rewards.append(env.step(actions[done])[1])


def test_the_text_of_images_tells_labels_and_answers_so_far(few_shot):
    env_id, kwargs = few_shot
    task = make_task(env_id, **kwargs)
    _, targets, scored = task.sample_episodes(1, seed=5)
    env = start(env_id, "ansi", **kwargs)
    actions = np.random.default_rng(0).integers(0, task.n_way, task.num_steps)
    rewards = []
    for done in range(task.num_steps + 1):
        _, *lines, total = env.render().splitlines()
        assert len(lines) == min(done + 1, task.num_steps)
        assert total == f"return {sum(rewards):.0f} after {done} of {task.num_steps} steps"
        for t, line in enumerate(lines):
            label = "·" if scored[0, t] else str(targets[0, t])
            answered = (
                [str(actions[t]), str(targets[0, t]), f"{rewards[t]:.0f}"] if t < done else []
            )
            step, marked, columns = cells(line)
            assert (step, marked) == (t, scored[0, t])
            if t < done or task.label_mode == "with_image":  # a late label may be told later
                assert columns[0] == label
            assert columns[1:] == (answered or ["·"] * 3)
        if done < task.num_steps:
            rewards.append(env.step(actions[done])[1])


def test_the_text_names_its_columns():
    header = start("PlasticCopy-v0", "ansi", dim=2).render().splitlines()[0]
    answers = ["target0", "target1", "answer0", "answer1"]
    assert header.split() == ["step", "value0", "value1", "show", "recall", *answers, "reward"]
    header = start("PlasticCueReward-v0", "ansi", cue_size=1).render().splitlines()[0]
    shown = ["cue0", "shown_reward", "hidden"]
    assert header.split() == ["step", *shown, "target", "answer", "reward"]


def test_after_a_reset_the_text_starts_anew():
    env = start("PlasticCopy-v0", "ansi")
    before = env.render()
    env.step(np.zeros(1, np.float32))
    env.reset(seed=5)
    assert env.render() == before


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_a_batch_renders_a_frame_per_environment_as_single_ones_do(mode):
    envs = start("PlasticCueReward-v0", mode, num_envs=3)
    single = start("PlasticCueReward-v0", mode)
    actions = np.array([[0.1], [0.2], [0.3]], np.float32)
    envs.step(actions)
    frames = envs.render()
    assert isinstance(frames, tuple)
    assert len(frames) == 3
    for k, frame in enumerate(frames):
        if k > 0:
            single.reset()
        single.step(actions[k])
        np.testing.assert_array_equal(frame, single.render())


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_batch_shows_the_end_of_an_episode_or_the_start_of_the_next(mode):
    envs = start("PlasticCopy-v0", "ansi", num_envs=2, length=1, autoreset_mode=mode)
    for _ in range(2):
        envs.step(np.zeros((2, 1), np.float32))
    done = 2 if mode == "NextStep" else 0
    assert all(frame.endswith(f"after {done} of 2 steps") for frame in envs.render())


@pytest.mark.parametrize(("num_envs", "nothing"), [(None, None), (2, (None, None))])
def test_rendering_without_a_mode_warns(num_envs, nothing):
    env = start("PlasticCopy-v0", None, num_envs=num_envs)
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() == nothing


def lines_of(monkeypatch, answers):
    """The labels of what is drawn of an episode with some answers, and the lowest and highest."""
    drawn = {}

    def keep(figure):
        axes = figure.axes[1]
        low, high = axes.get_ylim()
        for line in axes.get_lines():
            heights = np.asarray(line.get_ydata(), float)
            assert ((heights >= low) & (heights <= high)).all()
            drawn[line.get_label()] = len(heights)
        return pixels(figure)

    monkeypatch.setattr(rendering, "pixels", keep)
    task = make_task("PlasticCopy-v0", length=2)
    episode = task.sample_episodes(1, seed=0)
    view = EpisodeView(
        task,
        episode.observations[0],
        episode.targets[0],
        episode.scored[0],
        np.float32(answers)[:, None],
        seen=4,
        answered=4,
    )
    assert task.picture(view).shape == (480, 720, 3)
    assert all(len(line) < 100 for line in task.text(view).splitlines())
    return drawn


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0, 0.1, -0.1, 0], {"answer": 4}),
        ([50, 0, -3e38, 2], {"answer": 1, "above the axis": 2, "below the axis": 1}),
        ([np.inf, -np.inf, np.nan, 0], {"answer": 1, "above the axis": 1, "no number": 1}),
    ],
)
def test_every_answer_is_in_the_picture(monkeypatch, answers, expected):
    drawn = lines_of(monkeypatch, answers)
    assert drawn["target"] == 4
    assert expected.items() <= drawn.items()
