from itertools import product

import pytest

from train.seeds import Reinforcement, Supervised, derived_seed, seed_sequence


@pytest.mark.parametrize(
    ("seed", "test_seed", "agents_seeds", "part"),
    [
        (0, 3241444873, [1878776328, 336614359, 1620722436, 1842996703], 750802424),
        (7, 3831650445, [600562731, 1809491585, 1915825222, 1921100091], 1497344462),
    ],
)
def test_seeds_stay_what_they_are(seed, test_seed, agents_seeds, part):
    assert list(Supervised) == list(Reinforcement) == [0, 1, 2, 3]
    assert derived_seed(seed, Supervised.TEST) == test_seed
    assert [derived_seed(seed, branch) for branch in Reinforcement] == agents_seeds
    assert derived_seed(seed, Reinforcement.TRAIN, 5) == part


def test_branches_differ_and_are_small_enough_for_agents():
    for table in (Supervised, Reinforcement):
        branches = [(branch,) for branch in table] + [(table.TRAIN, part) for part in range(4)]
        seeds = [derived_seed(*each) for each in ((s, *b) for s, b in product((0, 1), branches))]
        assert len(set(seeds)) == 16
        if table is Reinforcement:
            assert all(0 <= derived_seed(2**63 - 1, *branch) < 2**31 for branch in branches)
        else:
            states = [seed_sequence(0, *branch).generate_state(1)[0] for branch in branches]
            assert states == seeds[:8]
