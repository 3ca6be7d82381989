import pytest

from training.redteam.statistics import Share


# Reference values: the closed form of Wilson's interval, worked by hand to four places.
@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        *((0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (1, 100, 0.0018, 0.0545)),
        *((0, 50, 0.0, 0.0714), (90, 100, 0.8256, 0.9448), (50, 50, 0.9286, 1.0)),
    ],
)
def test_wilsons_interval(count: int, total: int, low: float, high: float) -> None:
    assert Share(count, total).interval == pytest.approx((low, high), abs=1e-4)


def test_nothing_is_known_of_nothing() -> None:
    assert Share(0, 0).to_json() == {"count": 0, "total": 0, "rate": None, "low": 0.0, "high": 1.0}
