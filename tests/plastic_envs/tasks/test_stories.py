"""Stories: that they say what they mean, and the published ones as they are read."""

import gymnasium as gym
import numpy as np
import pytest

from plastic_envs import TaskEnv
from plastic_envs.tasks.sequences.stories import Stories

SIGMAS = 5


def told(task, episode):
    """The words of every step of an episode."""
    words = np.array(task.words)
    return [words[step > 0].tolist() for step in episode]


@pytest.mark.parametrize("tokens", ["sentence", "word"])
@pytest.mark.parametrize("num_facts", [1, 2])
def test_the_answer_is_what_a_reader_of_the_words_would_say(num_facts, tokens):
    task = Stories(num_facts=num_facts, story_length=14, tokens=tokens)
    observations, targets, scored = task.sample_episodes(300, seed=0)
    assert (scored == (np.arange(task.num_steps) == task.num_steps - 1)).all()
    kinds = set()
    for episode, target in zip(observations, targets[:, -1], strict=True):
        steps = told(task, episode)
        if tokens == "word":
            said = [[*a, *b, *c] for a, b, c in zip(*[iter(steps)] * 3, strict=True)]
        else:
            said = steps
        *story, (where, asked) = said
        assert where == "where"
        place, holder = {}, {}
        for person, verb, what in story:
            kinds.add(verb)
            if verb == "went":
                assert place.get(person) != what
                place[person] = what
                continue
            carried = holder.get(what)
            if verb == "took":
                assert carried is None
                assert place.get(what, place[person]) == place[person]
                holder[what] = person
            else:
                assert carried == person
                place[what], holder[what] = place[person], None
        truth = place[holder[asked]] if holder.get(asked) else place[asked]
        assert task.answers[target] == truth
    assert kinds == ({"went"} if num_facts == 1 else {"went", "took", "dropped"})


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"num_facts": 2}, {"num_facts": 2, "num_people": 1, "num_objects": 5, "story_length": 30}],
)
def test_the_oracle_makes_no_mistake_and_no_place_is_likelier(kwargs):
    task = Stories(**kwargs)
    episodes = task.sample_episodes(3000, seed=1)
    assert task.score(task.oracle(episodes.observations), episodes) == task.optimal_score == 1
    counts = np.bincount(episodes.targets[:, -1], minlength=6)
    assert (abs(counts - 500) < SIGMAS * np.sqrt(500 * 5 / 6)).all()


def test_words_and_answers_have_names_however_many_there_are():
    task = Stories(num_facts=2, num_people=5, num_objects=1, num_places=7)
    words = "where Mary John Sandra Daniel person4 went took dropped milk"
    places = "kitchen garden office bathroom hallway bedroom place6"
    assert task.words == [*words.split(), *places.split()]
    assert task.answers == task.words[-7:]


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"num_facts": 3}, r"^num_facts must be an integer .* got 3$"),
        ({"number": 21}, r"^number must be an integer .* got 21$"),
        ({"tokens": "letters"}, r"^tokens must be one of"),
        ({"split": "exam"}, r"^split must be one of"),
        ({"root": 3}, r"^root must be"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(kwargs, error):
    with pytest.raises(ValueError, match=error):
        Stories(**kwargs)


def test_the_text_says_what_was_right():
    env = gym.make("PlasticStories-v0", story_length=2, render_mode="ansi").unwrapped
    env.reset(seed=0)
    for _ in range(3):
        env.step(0)
    *lines, question, last = env.render().splitlines()
    said = [" ".join(words) for words in told(env.task, env._start.observations[0])]
    assert lines == [f"   {k}  {words}" for k, words in enumerate(said[:2])]
    right = env.task.answers[env._start.targets[0, -1]]
    verdict = "right" if right == "kitchen" else f"but it is {right}"
    assert question == f"   2  {said[2]}?  kitchen, {verdict}"
    assert last.startswith("return ")


# --- published stories: files made here in their form

TRAIN = """1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Daniel took the apple there.
5 Where is Daniel? \thallway,garden\t4
1 Sandra didn't go.
2 Where is Sandra?\toffice\t1
"""
TEST = """1 John went home.
2 Where is John? \tGarden\t1
3 Where is John? \toffice\t1
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qa3_some-facts_train.txt").write_text(TRAIN)
    (tmp_path / "qa3_some-facts_test.txt").write_text(TEST)
    return tmp_path


def published(folder, **kwargs):
    return Stories(root=folder, number=3, **kwargs)


def test_each_published_question_is_an_episode_with_its_story(folder):
    task = published(folder)
    assert task.answers == ["bathroom", "garden", "hallway,garden", "office"]
    assert (task.chance_score, task.random_score, task.optimal_score) == (None, 1 / 4, 1)
    assert task.oracle_player() is None
    observations, targets, scored = task.sample_episodes(60, seed=0)
    assert scored[:, -1].all()
    seen = {
        (*(" ".join(words) for words in told(task, one)), task.answers[target])
        for one, target in zip(observations, targets[:, -1], strict=True)
    }
    first, second = "bathroom mary moved the to", "hallway john the to went"
    third = "apple daniel the there took"
    assert seen == {
        ("", first, second, "is mary where", "bathroom"),
        (first, second, third, "daniel is where", "hallway,garden"),
    }


def test_splits_are_those_of_the_files(folder):
    answers = {
        split: {
            published(folder, split=split).answers[k]
            for k in published(folder).for_split(split).sample_episodes(40, seed=0).targets[:, -1]
        }
        for split in ("train", "validation", "test")
    }
    assert answers == {
        "train": {"bathroom", "hallway,garden"},
        "validation": {"office"},
        "test": {"garden", "office"},
    }


def test_words_come_one_by_one_without_gaps(folder):
    task = published(folder, tokens="word", split="validation")
    [episode] = task.sample_episodes(1, seed=0).observations
    steps = told(task, episode)
    assert task.num_steps == 5 + 5 + 5 + 3
    assert steps == [[]] * 12 + [[w] for w in ["sandra", "didn't", "go", "where", "is", "sandra"]]


def test_only_the_last_sentences_of_a_story_are_kept(folder):
    task = published(folder, most_sentences=1)
    assert task.num_steps == 2
    assert ["apple", "daniel", "the", "there", "took"] in [
        told(task, one)[0] for one in task.sample_episodes(30, seed=0).observations
    ]


def test_an_environment_of_published_stories(folder):
    env = TaskEnv(published(folder), render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (480, 720, 3)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Mary went.\n", r"qa3_some-facts_train.txt, line 1: not 'number sentence'"),
        ("1 Mary went.\n2 ...\n", r"line 2: a sentence without words"),
        ("1 Mary went.\n2 Where is Mary?\t \t1\n", r"line 2: a question without answer"),
        ("1 Mary went.\n", r"has 0 questions: at least 2 are needed"),
    ],
)
def test_a_damaged_file_is_refused_with_the_line(folder, text, error):
    (folder / "qa3_some-facts_train.txt").write_text(text)
    with pytest.raises(ValueError, match=error):
        published(folder)


def test_a_file_that_is_no_text_is_refused(folder):
    (folder / "qa3_some-facts_test.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"qa3_some-facts_test.txt is not a text in UTF-8"):
        published(folder)


def test_a_missing_file_is_told_with_what_is_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no qa3_\*_train.txt in .*: root must be"):
        published(tmp_path)
