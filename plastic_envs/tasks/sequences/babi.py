"""The published bAbI stories, read from a folder of their files."""

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plastic_envs.checks import shown

NUM_TASKS = 20

_LINE = re.compile(r"(\d+) (.+)")
_WORD = re.compile(r"[\w']+")
_VALIDATION = 10  # every so many-th part of the training stories, the last one


class BabiTask(NamedTuple):
    """The questions of a split, each with its story.

    Attributes:
        sentences: int64 [N, sentences, words], words of the vocabulary or -1, the question last;
            shorter stories begin with empty sentences.
        right: int64 [N], the right answers.
        words: The vocabulary, that of training and test.
        answers: All answers; one that is a list ("n,e") counts as one.
        most_words: Words of the longest story with its question, of training and test.
    """

    sentences: NDArray[np.int64]
    right: NDArray[np.int64]
    words: tuple[str, ...]
    answers: tuple[str, ...]
    most_words: int


class _Question(NamedTuple):
    sentences: list[list[str]]
    answer: str


@lru_cache(maxsize=8)
def read_babi(root: str, number: int, split: str, most_sentences: int) -> BabiTask:
    """Read a task of the published files.

    A line is "number sentence"; the number 1 begins a story; a question has its answer, and the
    lines that tell it, behind tabs. A question is asked of all sentences before it in its story,
    without the questions.

    Args:
        root: Folder with `qa<number>_<name>_train.txt` and `qa<number>_<name>_test.txt`.
        number: Which task, 1 to 20.
        split: `"train"`, `"validation"` (the last tenth of the questions in the training file) or
            `"test"`.
        most_sentences: The last ones before a question are kept.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is not in this form; it names the line.
    """
    train, test = (_read(_file(root, number, part), most_sentences) for part in ("train", "test"))
    everything = [*train, *test]
    words = sorted({word for q in everything for sentence in q.sentences for word in sentence})
    answers = sorted({q.answer for q in everything})
    chosen = test if split == "test" else train
    if split != "test":
        cut = len(chosen) - max(1, len(chosen) // _VALIDATION)
        chosen = chosen[cut:] if split == "validation" else chosen[:cut]
    longest = max(len(q.sentences) for q in everything)
    widest = max(len(sentence) for q in everything for sentence in q.sentences)
    sentences = np.full((len(chosen), longest, widest), -1, np.int64)
    places = {word: place for place, word in enumerate(words)}
    for row, question in enumerate(chosen):
        first = longest - len(question.sentences)
        for step, sentence in enumerate(question.sentences, start=first):
            sentences[row, step, : len(sentence)] = [places[word] for word in sentence]
    right = np.array([answers.index(q.answer) for q in chosen], np.int64)
    most_words = max(sum(map(len, q.sentences)) for q in everything)
    return BabiTask(sentences, right, tuple(words), tuple(answers), most_words)


def _file(root: str, number: int, part: str) -> Path:
    """Return the file of a part of a task."""
    pattern = f"qa{number}_*_{part}.txt"
    found = sorted(Path(root).glob(pattern))
    if not found:
        raise FileNotFoundError(
            f"no {pattern} in {root}: root must be a folder of the bAbI tasks, such as "
            "tasks_1-20_v1-2/en-10k"
        )
    return found[0]


def _read(path: Path, most_sentences: int) -> list[_Question]:
    questions: list[_Question] = []
    story: list[list[str]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text in UTF-8: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip("\n"))
        if match is None:
            raise ValueError(f"{path}, line {number}: not 'number sentence': {shown(line)}")
        if match[1] == "1":
            story = []
        text, *answer = match[2].split("\t")
        words = _WORD.findall(text.lower())
        if not words:
            raise ValueError(f"{path}, line {number}: a sentence without words: {shown(line)}")
        if not answer:
            story.append(words)
            continue
        if not answer[0].strip():
            raise ValueError(f"{path}, line {number}: a question without answer: {shown(line)}")
        questions.append(_Question([*story[-most_sentences:], words], answer[0].strip().lower()))
    if len(questions) < 2:
        raise ValueError(f"{path} has {len(questions)} questions: at least 2 are needed")
    return questions
