"""The normal tail against SciPy's."""

import pytest
from scipy.stats import norm

from serving.provenance.detection.normal import log_upper_tail, upper_tail


@pytest.mark.parametrize("z", [-40.0, -3.0, 0.0, 1.0, 29.9, 30.1, 200.0])
def test_log_tail(z: float) -> None:
    assert log_upper_tail(z) == pytest.approx(float(norm.logsf(z)), rel=1e-9, abs=1e-12)


def test_tail() -> None:
    assert upper_tail(1.96) == pytest.approx(float(norm.sf(1.96)))
