from __future__ import annotations

import pytest

from ctkit.console import quantities
from ctkit_reports import wording

NAN = float("nan")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.0312, "31 ms"), (4.24, "4.2 s"), (59.96, "1 min 0 s"), (192, "3 min 12 s"), (7_500, "2 h 5 min"),
     (200_000, "2 d 7 h"), (NAN, "–")],
)  # fmt: skip
def test_durations_have_two_units_and_do_not_break(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text.replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1, "100 %"),
        (0, "0 %"),
        (0.175, "17.5 %"),
        (0.0042, "0.42 %"),
        (0.9999, "100.0 %"),
        (4e-6, "<0.01 %"),
        (NAN, "–"),
    ],
)
def test_shares_are_percentages(share: float, text: str) -> None:
    assert wording.percent(share) == text.replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(
    ("value", "text"), [(6.0, "6"), (1234.0, "1,234"), (-0.5, "−0.5"), (0.82251, "0.823"), (1e-5, "1e−05"), (NAN, "–")]
)
def test_numbers_show_the_digits_that_matter(value: float, text: str) -> None:
    assert wording.number(value) == text


def test_p_values_are_never_zero() -> None:
    assert wording.p_statement(1e-9) == "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}0.001"
    assert wording.p_statement(0.0446) == "p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}0.045"
    assert wording.p_value(NAN) == "–"


def test_differences_carry_their_sign() -> None:
    assert wording.difference(0.04) == "+0.040"
    assert wording.interval(-0.01, 0.05, signed=True) == "−0.010 to +0.050"
    assert wording.interval(NAN, 1) == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [("auc", "AUC"), ("f1_macro", "F1 macro"), ("learning-rate", "Learning rate"), ("brier", "Brier score"),
     ("sensitivity_at_95_specificity", "Sensitivity at 95 % specificity")],
)  # fmt: skip
def test_metrics_have_names_for_people(name: str, text: str) -> None:
    assert wording.metric(name) == text


@pytest.mark.parametrize(
    ("distance", "unit", "text"),
    [(6, "bits", "6 bits"), (1, "bits", "1 bit"), (0.4159, "1 - SSIM", "0.416 (1 − SSIM)")],
)
def test_distances_carry_their_unit(distance: float, unit: str, text: str) -> None:
    assert wording.apart(distance, unit) == text


def test_one_of_a_thing_is_singular() -> None:
    assert quantities.count(1, "slice") == "1 slice"
    assert quantities.count(1234, "slice") == "1,234 slices"
    assert wording.apart(1, "bits") == "1 bit"
    assert wording.apart(3, "bits") == "3 bits"
    assert wording.apart(0.25, "") == "0.25"


def test_lists_read_as_sentences() -> None:
    assert [wording.listing(list(words)) for words in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]


def test_time_stamps_are_cut_to_the_minute() -> None:
    assert wording.moment("2031-05-06T07:08:09+00:00") == "2031-05-06 07:08 UTC"
    assert wording.moment("") == ""


@pytest.mark.parametrize(("joules", "text"), [(256_000.0, "71.1 Wh"), (5.04e6, "1.4 kWh"), (float("nan"), "–")])
def test_energy_is_told_in_the_unit_that_fits(joules: float, text: str) -> None:
    assert wording.energy(joules) == text.replace(" ", "\N{NO-BREAK SPACE}")
