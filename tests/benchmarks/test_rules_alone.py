"""Rules by themselves compute what their names say."""

import numpy as np
import pytest

from benchmarks import rules_alone


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 6, 3)), rng.normal(size=(4, 6))


def test_the_preconditioned_rule_and_settled_inhibition_are_ridge_regression(examples):
    x, v = examples
    gram = x.transpose(0, 2, 1) @ x + np.eye(3) / 10
    ridge = np.linalg.solve(gram, x.transpose(0, 2, 1) @ v[..., None])[..., 0]
    np.testing.assert_allclose(rules_alone.least_squares(x, v, 10.0), ridge, rtol=1e-9)
    np.testing.assert_allclose(rules_alone.settled(x, v, 10.0, 3_000), ridge, rtol=1e-6)
    np.testing.assert_allclose(rules_alone.settled(x, v, 10.0, 500, 0.6), ridge, rtol=1e-6)
    assert not np.allclose(rules_alone.least_squares(x, v, 10.0, block=1), ridge, rtol=0.1)


def test_a_normalised_step_answers_the_last_example_right(examples):
    x, v = examples
    w = rules_alone.replay(x, v, 1.0)
    np.testing.assert_allclose((w * x[:, -1]).sum(1), v[:, -1])
    once, twice = (rules_alone.delta(x, v, 0.05, passes=n) for n in (1, 2))
    assert not np.allclose(once, twice)


def test_rows_tell_rule_setting_and_error(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["rules_alone", "--episodes", "5", "--num-support", "3"])
    rules_alone.main()
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(rules_alone.LEARNERS) + 1
    assert all("±" in row and row.endswith("%") for row in rows)
