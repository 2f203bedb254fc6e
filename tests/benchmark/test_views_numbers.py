"""How numbers are written."""

import pytest

from theseus_deploy.benchmark.views import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [(134.2, "134"), (41.02, "41.0"), (4.559, "4.56"), (0.8731, "0.873"), (9.999, "10.0"), (12345, "12,300"), (0, "0")],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert numbers.digits(value) == text


def test_ratios_have_two_decimals_or_two_digits() -> None:
    assert numbers.times(0.213) == "0.21"
    assert numbers.times(0.0523) == "0.052"


def test_decimal_points_stand_in_one_column() -> None:
    assert numbers.aligned(["134", "41.0", "4.56", "–"]) == ["134   ", "41.0 ", "4.56", "–"]
