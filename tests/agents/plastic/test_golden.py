"""Every form reproduces the recorded values of the published implementation."""

import os
from pathlib import Path

import pytest

from benchmarks.parity import golden_case_errors

DEFAULT = Path(__file__).resolve().parents[3].parent / "shared" / "golden"
DIRECTORY = Path(os.environ.get("PLASTIC_GOLDEN", DEFAULT))
CASES = sorted(path.name for path in DIRECTORY.glob("*.npz"))

pytestmark = pytest.mark.skipif(
    not DIRECTORY.is_dir(), reason=f"no recorded values in {DIRECTORY} (see PLASTIC_GOLDEN)"
)


def test_all_recorded_cases_are_found():
    assert len(CASES) == 26


@pytest.mark.parametrize("case", CASES)
def test_every_recorded_number_is_reproduced(case):
    forms = golden_case_errors(DIRECTORY / case)
    assert {"closed", "naive"} <= set(forms)
    for form, errors in forms.items():
        assert {"output", "loss", "h_final", "inner_loss"} <= set(errors)
        assert {key: error for key, error in errors.items() if not error < 1e-9} == {}, form
