from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctkit.console.quantities import age, parse_age, parse_size, percent, size
from ctkit.errors import RequestError


@pytest.mark.parametrize(
    ("text", "count"), [("50GB", 50 * 10**9), ("1.5 MB", 1_500_000), ("300", 300), ("2kB", 2000), ("2K", 2000)]
)
def test_a_size_is_read(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(("text", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("1.5m", 90), ("2w", 1_209_600)])
def test_an_age_is_read(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "GB", "-3GB", "3 potatoes", "1e3MB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RequestError, match="such as 50GB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "30", "d", "30 years"])
def test_what_is_no_age_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RequestError, match="such as 30d"):
        parse_age(text)


@pytest.mark.parametrize(
    ("share", "text"), [(1, "100.0%"), (0.175, "17.5%"), (0.001, "0.1%"), (1 / 250_000, "<0.1%"), (0, "0.0%")]
)
def test_a_share_is_shown_in_percent_and_a_small_one_is_not_nothing(share: float, text: str) -> None:
    assert percent(share) == text


@given(st.integers(0, 10**15))
def test_a_size_reads_back_as_nearly_what_it_was(count: int) -> None:
    assert parse_size(size(count)) == pytest.approx(count, rel=0.06)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "just now"), (59, "just now"), (60, "1 minute"), (7300, "2 hours"), (90_000, "1 day")]
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text
