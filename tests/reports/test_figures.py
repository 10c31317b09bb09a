from __future__ import annotations

import re

import matplotlib as mpl
import numpy as np
import pytest

from ctkit_reports import figures
from ctkit_reports.figures import Curve, Look, Point, Strip
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


def places(svg: str, arm: int) -> tuple[float, float]:
    """Ends (x, y) of the first line that is drawn in an arm's colour, in points."""
    return tuple(map(float, re.findall(rf'<path d="M ([\d.]+) ([\d.]+)[^>]*stroke: var\(--arm-{arm}\)', svg)[0]))


@pytest.mark.parametrize("others", [[120, 768], [40, 768], [121, 4000], []], ids=["linear", "log", "wide", "alone"])
def test_arms_that_keep_as_many_slices_are_moved_apart_by_the_same_screen_points(others: list[int]) -> None:
    kept = [120, 120, *others]
    svg = figures.scores_against_slices("AUC", "AUC", [Point(Look(n), x, 0.8, 0.7, 0.9) for n, x in enumerate(kept)])
    tied = [places(svg, number)[0] for number, x in enumerate(kept) if x in (120, 121)]
    np.testing.assert_allclose(np.diff(tied), 9, atol=0.6)  # the third keeps one more
    alone = figures.scores_against_slices(
        "AUC", "AUC", [Point(Look(n), x, 0.8, 0.7, 0.9) for n, x in enumerate([120, *set(others) - {120, 121}])]
    )
    assert np.mean(tied) == pytest.approx(places(alone, 0)[0], abs=6)  # around the place where one alone stands


def test_points_carry_their_values_as_titles_and_a_baseline_is_a_line_across() -> None:
    points = [
        Point(Look(0), 768, 0.867, 0.837, 0.892, "all <&>"),
        Point(Look(1), 120, 0.8, np.nan, np.nan, 'ha"sh'),
        Point(Look(2), np.nan, 0.7, 0.65, 0.75, "untrained"),
    ]
    svg = figures.scores_against_slices("AUC", "AUC", points)
    assert re.findall("<title>(.*?)</title>", svg) == [
        "all &lt;&amp;&gt;: 0.867 (0.837 to 0.892), 768 slices kept",
        'ha"sh: 0.800, 120 slices kept',
        "untrained: 0.700 (0.650 to 0.750)",
    ]
    assert not {"all", "untrained"} & set(re.findall(r">([^<]*)</text>", svg))  # names would cover each other


def test_long_titles_and_names_are_set_in_lines() -> None:
    name = "an-arm-that-somebody-named-by-all-of-its-parameters"
    svg = figures.scores_against_slices(f"{name}, linear", "AUC", [Point(Look(0), 120, 0.8, 0.7, 0.9, name)])
    svg += figures.strips("AUC", [Strip(name, Look(0), np.array([0.7, 0.8]), (0.75, 0.7, 0.8))])
    texts = re.findall(r">([^<]*)</text>", svg)
    assert {"an-arm-that-somebody-named-by-all-of-its-", "an-arm-that-somebody-named-by-all-"} <= set(texts)
    assert max(map(len, texts)) <= 54


def test_every_point_of_a_label_curve_is_titled_and_lies_at_its_share() -> None:
    shares = np.array([0.1, 1.0])
    lines = [
        (Curve(Look(n), shares, np.array([0.6, 0.8 + n / 50]), f"arm {n}"), np.array([[0.5, 0.7], [0.7, 0.9]]))
        for n in range(3)
    ]
    svg = figures.label_curve("AUC", "AUC", lines)
    assert re.findall("<title>(.*?)</title>", svg)[:2] == ["arm 0: 0.6 at 0.1", "arm 0: 0.8 at 1"]
    assert len(re.findall("<title>", svg)) == 6
    np.testing.assert_allclose(np.diff([places(svg, number)[0] for number in range(3)]), 4, atol=0.05)


def test_ticks_below_bars_of_long_numbers_are_few() -> None:
    svg = figures.histogram("a", "1 - SSIM", np.linspace(0.0512, 0.0999, 40), Look(0))
    assert 3 <= len(re.findall(r">0\.\d+</text>", svg)) <= 7


def test_bars_and_curves_are_titled_too() -> None:
    assert "<title>2: 3 slices</title>" in figures.histogram("a", "bits", np.array([1.0, 2, 2, 2]), Look(0))
    svg = figures.threshold_curve("a", "bits", np.arange(3.0), np.array([9.0, 4, 1]), Look(0), 1)
    assert re.findall("<title>(.*?)</title>", svg) == ["9 at 0", "4 at 1", "1 at 2"]


def test_arms_beyond_the_eighth_repeat_colours_with_another_marker_and_dash() -> None:
    looks = [Look(number) for number in range(16)]
    assert len({(look.colour, look.marker, look.dash) for look in looks}) == 16


def test_one_value_and_equal_values_have_a_histogram() -> None:
    for values in (np.array([2.5]), np.full(9, 3.0), np.array([0.1, 0.2, 0.25])):
        assert "<path" in figures.histogram("a", "mm", values, Look(0), at=1.0)


def test_strips_join_neighbouring_slices() -> None:
    assert strip_path(np.array([0, 1, 2, 7])) == "M0 0h3v1h-3zM7 0h1v1h-1z"
    assert strip_path(np.array([], np.int64)) == ""
