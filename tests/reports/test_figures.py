from __future__ import annotations

import re

import matplotlib as mpl
import numpy as np
import pytest

from ctkit_reports import figures
from ctkit_reports.figures import Curve, Look, Point
from ctkit_reports.sections.choice import strip_path

STEPS = np.arange(1.0, 51.0)


def test_text_stays_text_and_colours_are_the_pages() -> None:
    svg = figures.curves("Loss of <a> & $b", "step", "", [Curve(Look(1), STEPS, 1 / STEPS)])
    assert ">Loss of &lt;a&gt; &amp; $b</text>" in svg
    assert "stroke: var(--arm-1)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert "DejaVu" not in svg


def test_the_same_plot_is_the_same_svg_and_ids_differ_between_plots() -> None:
    first, again = (figures.curves("a", "step", "", [Curve(Look(1), STEPS, STEPS)]) for _ in range(2))
    other = figures.curves("b", "step", "", [Curve(Look(1), STEPS, STEPS)])
    assert first == again
    assert not set(re.findall(r' id="([^"]+)"', first)) & set(re.findall(r' id="([^"]+)"', other))


def test_settings_of_matplotlib_are_left_alone() -> None:
    before = dict(mpl.rcParams)
    figures.curves("a", "step", "", [Curve(Look(0), STEPS, STEPS)])
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(("kept", "ticks"), [([246, 43], {"50", "100", "200"} - {"50"}), ([246, 200], set())])
def test_slices_over_a_wide_range_have_a_log_axis_with_plain_numbers(kept: list[int], ticks: set[str]) -> None:
    points = [Point(Look(number), n, 0.8, 0.7, 0.9) for number, n in enumerate([*kept, 12 if ticks else 210])]
    svg = figures.scores_against_slices("AUC", "AUC", points)
    assert ticks <= set(re.findall(r">([\d,]+)</text>", svg))


@pytest.mark.parametrize("others", [[120, 768], [40, 768], []], ids=["linear", "logarithmic", "alone"])
def test_arms_that_keep_as_many_slices_are_drawn_beside_each_other(others: list[int]) -> None:
    points = [Point(Look(number), n, 0.8, 0.7, 0.9) for number, n in enumerate([120, 120, *others])]
    svg = figures.scores_against_slices("AUC", "AUC", points)
    first, second = (re.findall(rf'<path d="M ([\d.]+) [^>]*stroke: var\(--arm-{arm}\)', svg)[0] for arm in (0, 1))
    assert float(second) - float(first) > 2  # points


def test_a_curve_of_one_step_has_one_tick() -> None:
    svg = figures.curves("a", "step", "", [Curve(Look(0), np.array([40.0]), np.array([0.5]))])
    assert re.findall(r">(3\d|4\d)</text>", svg) == ["40"]


def test_arms_beyond_the_eighth_repeat_colours_with_another_marker_and_dash() -> None:
    looks = [Look(number) for number in range(16)]
    assert len({(look.colour, look.marker, look.dash) for look in looks}) == 16


def test_one_value_and_equal_values_have_a_histogram() -> None:
    for values in (np.array([2.5]), np.full(9, 3.0), np.array([0.1, 0.2, 0.25])):
        assert "<path" in figures.histogram("a", "mm", values, Look(0), at=1.0)


def test_strips_join_neighbouring_slices() -> None:
    assert strip_path(np.array([0, 1, 2, 7])) == "M0 0h3v1h-3zM7 0h1v1h-1z"
    assert strip_path(np.array([], np.int64)) == ""
