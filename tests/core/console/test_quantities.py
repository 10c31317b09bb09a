from __future__ import annotations

import pytest

from ctkit.console.quantities import age, percent


@pytest.mark.parametrize(
    ("share", "text"), [(1, "100.0%"), (0.175, "17.5%"), (0.001, "0.1%"), (1 / 250_000, "<0.1%"), (0, "0.0%")]
)
def test_a_share_is_shown_in_percent_and_a_small_one_is_not_nothing(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "just now"), (59, "just now"), (60, "1 minute"), (7300, "2 hours"), (90_000, "1 day")]
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text
