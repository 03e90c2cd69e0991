import numpy as np
import pytest

from plastic_envs.tasks.draws import integers, shuffled, split
from tests.plastic_envs.players import assert_equally_often

LARGEST = np.float32(1 - 2**-24)  # of the uniforms that a generator gives


def uniforms(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize(("count", "picks", "orders"), [(5, 2, 20), (4, 4, 24), (6, 1, 6)])
def test_the_first_cards_are_random_and_the_deck_is_whole(count, picks, orders):
    deck = shuffled(uniforms(200 * orders, picks), count, picks)
    assert deck.dtype == np.int64
    assert (np.sort(deck, axis=1) == np.arange(count)).all()
    places = {cards: k for k, cards in enumerate(sorted(set(map(tuple, deck[:, :picks]))))}
    assert len(places) == orders
    assert_equally_often([places[tuple(cards)] for cards in deck[:, :picks]], orders)


def test_the_ends_of_the_uniforms_pick_the_first_and_the_last_card_left():
    assert shuffled(np.zeros((1, 3), np.float32), 4, 3).tolist() == [[0, 1, 2, 3]]
    assert shuffled(np.full((1, 3), LARGEST), 3, 3).tolist() == [[2, 0, 1]]
    assert shuffled(np.full((1, 1), LARGEST), 10**6, 1)[0, 0] == 10**6 - 1


def test_each_row_may_have_a_deck_of_its_own_size():
    sizes = (2, 4, 7)
    deck = shuffled(uniforms(3, 2000, 2), np.array(sizes)[:, None].repeat(2000, 1), 2)
    assert deck.shape == (3, 2000, 7)
    for cards, size in zip(deck, sizes, strict=True):
        assert (np.sort(cards[:, :size], axis=1) == np.arange(size)).all()
        # The second card is one of those left: its distance from the first is never 0.
        assert_equally_often(cards[:, 0], size)
        assert_equally_often((cards[:, 1] - cards[:, 0]) % size - 1, size - 1)


def test_a_row_is_shuffled_as_it_is_alone():
    draws, sizes = uniforms(5, 3), np.array([3, 9, 4, 9, 5])
    together = shuffled(draws, sizes, 3)
    for row, size, deck in zip(draws, sizes, together, strict=True):
        assert shuffled(row[None], size, 3).tolist() == [deck[:size].tolist()]


@pytest.mark.parametrize("count", [1, 3, 1000, 2**20])
def test_no_integer_is_too_large(count):
    assert integers(np.array([0, LARGEST], np.float32), count).tolist() == [0, count - 1]


def test_uniforms_are_dealt_out_once_each():
    first, none, second, rest = split(uniforms(2, 6), 1, 0, 3)
    assert none.shape == (2, 0)
    np.testing.assert_array_equal(np.hstack([first, second, rest]), uniforms(2, 6))
    assert [part.shape[1] for part in (first, second, rest)] == [1, 3, 2]
