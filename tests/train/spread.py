"""Many moments at which a run is cut off: some tried by the fast tests, all by the slow ones."""

import pytest


def spread(values, fast):
    """Return parameters of a test, of which all that are not named as fast are slow."""
    return [
        value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in values
    ]
