"""Plots as inline SVG: text stays text, colours are the page's variables, so one plot serves light, dark and print."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import numpy as np
from markupsafe import Markup

from ctkit.contracts import Bools, Floats
from ctkit_reports import wording

if TYPE_CHECKING:
    from matplotlib import RcParams
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

P = ParamSpec("P")

# Each colour is drawn as a grey of its own, in plots.mplstyle too, and becomes a CSS variable afterwards.
_INK, _FAINT = "#010101", "#020202"
_VARIABLES = {_INK: "var(--plot-ink)", _FAINT: "var(--plot-faint)"}
_COLOURS = tuple(f"#0303{number:02d}" for number in range(8))
_VARIABLES |= {colour: f"var(--arm-{number})" for number, colour in enumerate(_COLOURS)}
_LIGHT = ("#4a5560", "#0068a8", "#c8500a", "#007a58", "#a8427f", "#9a6a00", "#2b8fc4", "#5b4fb0")  # as in page.css
_LETTERS, _NAME = 9, 36  # of a title in an inch, and of a row's name in a line
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")


@dataclass(frozen=True)
class Look:
    """How an arm looks in every plot: a colour and a marker; dashed once the eight colours are used up."""

    number: int

    @property
    def colour(self) -> str:
        """For matplotlib."""
        return _COLOURS[self.slot]

    @property
    def slot(self) -> int:
        """Number of the CSS variable."""
        return self.number % len(_COLOURS)

    @property
    def marker(self) -> str:
        """For matplotlib."""
        return _MARKERS[(self.number + self.number // len(_MARKERS)) % len(_MARKERS)]

    @property
    def dash(self) -> str:
        """For matplotlib."""
        return "-" if self.number < len(_COLOURS) else "--"


@dataclass(frozen=True)
class Curve:
    """Points of one arm."""

    look: Look
    x: Floats
    y: Floats
    name: str = ""  #: in the titles of its points


@dataclass(frozen=True)
class Point:
    """A value with its interval."""

    look: Look
    x: float  #: NaN where it has no place on the axis, as a baseline has kept no slices
    y: float
    low: float
    high: float
    name: str = ""


@dataclass(frozen=True)
class Strip:
    """Values of one arm, and their mean with its interval."""

    name: str
    look: Look
    values: Floats  #: (n,)
    mean: tuple[float, float, float]  #: and the ends of its interval


def swatch(look: Look) -> Markup:
    """A piece of an arm's line with its marker, for legends: without ids, for it may stand on a page many times."""
    from matplotlib.markers import MarkerStyle
    from matplotlib.patches import PathPatch
    from matplotlib.transforms import Affine2D

    width, height = 32.0, 12.0  # points
    marker = MarkerStyle(look.marker)
    shape = marker.get_path().transformed(marker.get_transform() + Affine2D().scale(7).translate(width / 2, height / 2))

    def draw(axes: Axes) -> None:
        axes.set(xlim=(0, width), ylim=(0, height), position=(0, 0, 1, 1))
        axes.plot([1, width - 1], [height / 2] * 2, look.dash, color=look.colour, clip_on=False)
        axes.add_patch(PathPatch(shape, color=look.colour, clip_on=False))
        axes.set_axis_off()

    return _svg(draw, inches=(width / 72, height / 72))


def _plot(
    width: float = 4.2, height: float = 2.9
) -> Callable[[Callable[Concatenate[Axes, P], None]], Callable[P, Markup]]:
    """Turn a function that draws on axes into one that returns the drawing, of so many inches."""

    def decorated(draw: Callable[Concatenate[Axes, P], None]) -> Callable[P, Markup]:
        @wraps(draw)
        def plot(*args: P.args, **kwargs: P.kwargs) -> Markup:
            return _svg(lambda axes: draw(axes, *args, **kwargs), (width, height))

        return plot

    return decorated


@_plot()
def curves(axes: Axes, title: str, x: str, y: str, lines: Sequence[Curve]) -> None:
    """Values over steps, a line for each arm and seed."""
    few = max(len(line.x) for line in lines) <= 40
    for line in lines:
        axes.plot(line.x, line.y, line.look.dash, color=line.look.colour, lw=1.1)
        if few:
            _marks(axes, line, size=4)
    axes.set(title=title, xlabel=x, ylabel=y)
    _counts(axes.xaxis, 6)


@_plot(4.6, 3.1)
def scores_against_slices(axes: Axes, title: str, score: str, points: Sequence[Point]) -> None:
    """A score over slices kept, with intervals; what has kept no slices is a line across. A legend has the names.

    Slices have a log scale where they span more than a factor of eight.
    """
    across, placed = ([point for point in points if np.isnan(point.x) == absent] for absent in (True, False))
    kept = np.array([point.x for point in placed])
    wide = bool(kept.max() > 8 * max(kept.min(), 1))
    for point, aside in zip(placed, _dodged(np.log(np.maximum(kept, 1)) if wide else kept, 250), strict=True):
        shifted = _shifted(axes, aside)
        if np.isfinite([point.low, point.high]).all():
            axes.plot(
                [point.x] * 2, [point.low, point.high], color=point.look.colour, solid_capstyle="round", **shifted
            )
        tip = f"{_valued(point)}, {point.x:,.0f} slices kept"
        _mark(axes, point.x, point.y, point.look, tip, size=8, **shifted)
    for point in across:
        style: dict[str, Any] = {"linestyle": (0, (5, 3)), "linewidth": 1.2, "clip_on": False, "markevery": [1]}
        line = axes.axhline(point.y, color=point.look.colour, marker=point.look.marker, markersize=6, **style)
        line.set_gid(f"{_TIP}{_valued(point)}")
        if np.isfinite([point.low, point.high]).all():
            axes.axhspan(point.low, point.high, color=point.look.colour, alpha=0.12, linewidth=0)
    if wide:
        axes.set_xscale("log")
        axes.set_xticks(_log_ticks(kept.min(), kept.max()))
        axes.minorticks_off()
    axes.margins(0.1)
    _seen(axes, [(point.x, y) for point in placed for y in (point.y, point.low, point.high) if np.isfinite(y)])
    axes.set(title=title, xlabel="slices kept", ylabel=score)
    _counts(axes.xaxis)


def _valued(point: Point) -> str:
    """A value with its interval, for the title of a point."""
    span = wording.interval(point.low, point.high)
    return f"{point.name}: {wording.score(point.y)}{f' ({span})' if span else ''}"


def _dodged(places: Floats, width: float) -> Floats:
    """How many screen points each of the places (n,) on an axis of ``width`` points moves aside, to hide no other."""
    apart = near = 9.0
    aside, order = np.zeros(len(places)), np.argsort(places, kind="stable")
    on_screen = (places - places.min()) / (np.ptp(places) or 1.0) * width
    for group in np.split(order, np.flatnonzero(np.diff(on_screen[order]) > near) + 1):
        aside[group] = apart * (np.arange(len(group)) - (len(group) - 1) / 2)
    return aside


def _shifted(axes: Axes, aside: float) -> dict[str, Any]:
    """Where something is drawn that moves so many screen points aside."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None
    return {"transform": axes.transData + ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)}


def _seen(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Widen the axes to show what was drawn aside."""
    axes.update_datalim([point for point in points if np.isfinite(point).all()])
    axes.autoscale_view()


_TIP = "tip:"  #: begins the ids of what gets a title


def _mark(axes: Axes, x: float, y: float, look: Look, tip: str, size: float = 5, **style: Any) -> None:
    """A point with a title."""
    axes.plot(x, y, look.marker, color=look.colour, markersize=size, gid=f"{_TIP}{tip}", **style)


def _marks(axes: Axes, line: Curve, size: float = 5, **style: Any) -> None:
    """The points of a curve, each with a title."""
    for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True):
        tip = f"{line.name}: {wording.number(y)} at {wording.number(x)}".removeprefix(": ")
        _mark(axes, x, y, line.look, tip, size, **style)


def strips(score: str, rows: Sequence[Strip]) -> Markup:
    """Every single value, a row for each arm, above the mean with its interval."""

    def draw(axes: Axes) -> None:
        for place, row in enumerate(reversed(rows)):
            mean, low, high = row.mean
            axes.plot([low, high], [place - 0.22] * 2, color=row.look.colour, solid_capstyle="round")
            tip = _valued(Point(row.look, np.nan, mean, low, high, f"{row.name}, mean"))
            axes.plot(
                mean, place - 0.22, "|", color=row.look.colour, markersize=9, markeredgewidth=2, gid=f"{_TIP}{tip}"
            )
            for value in row.values.tolist():
                _mark(axes, value, place + 0.12, row.look, f"{row.name}: {wording.score(value)}", alpha=0.7)
        axes.set_yticks(range(len(rows)), [fill(row.name, _NAME) for row in reversed(rows)])
        axes.grid(visible=False, axis="y")
        axes.set(title="Every run, and the mean with its interval", xlabel=score, ylim=(-0.6, len(rows) - 0.4))

    most = max(len(wrap(row.name, _NAME)) for row in rows)  # lines
    return _svg(draw, inches=(6.0, 0.9 + max(0.42, 0.18 * most) * len(rows)))


@_plot()
def label_curve(axes: Axes, title: str, score: str, lines: Sequence[tuple[Curve, Floats]]) -> None:
    """A score over shares of the labels, on a log scale; beside each curve (n,) the ends (n, 2) of its intervals."""
    for number, (line, ends) in enumerate(lines):
        shifted = _shifted(axes, 4.0 * (number - (len(lines) - 1) / 2))  # so that no interval hides another
        axes.plot(line.x, line.y, line.look.dash, color=line.look.colour, **shifted)
        _marks(axes, line, **shifted)
        for x, (low, high) in zip(line.x.tolist(), ends.tolist(), strict=True):
            axes.plot([x, x], [low, high], color=line.look.colour, linewidth=0.9, **shifted)
        _seen(axes, [(x, y) for x, *values in zip(line.x, line.y, *ends.T, strict=True) for y in values])
    shares = sorted({float(share) for line, _ in lines for share in line.x})
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
    axes.minorticks_off()
    axes.set(title=title, xlabel="share of the training labels", ylabel=score)


@_plot(3.9, 3.9)
def unit_square(axes: Axes, title: str, x: str, y: str, lines: Sequence[Curve], markers: bool = False) -> None:
    """Shares over shares with the diagonal: ROC and calibration."""
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=(0, (2, 3)))
    for line in lines:
        axes.plot(line.x, line.y, line.look.dash, color=line.look.colour)
        if markers:
            _marks(axes, line)
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))


@_plot(4.2, 2.3)
def histogram(
    axes: Axes, title: str, x: str, values: Floats, look: Look, at: float | None = None, y: str = "slices"
) -> None:
    """How often which value occurs; ``at`` marks the threshold. Whole numbers get a bar each."""
    from matplotlib.ticker import MaxNLocator

    whole = bool(np.all(values == np.round(values))) and np.ptp(values) < 64
    edges = np.arange(values.min() - 0.5, values.max() + 1) if whole else np.histogram_bin_edges(values, bins=24)
    heights, edges = np.histogram(values, edges)
    for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), heights.tolist(), strict=True):
        where = wording.number((low + high) / 2) if whole else wording.interval(low, high)
        gid, margin = f"{_TIP}{where}: {count:,} {y}", 0.06 * (high - low)
        axes.bar(low + margin, count, high - low - 2 * margin, align="edge", color=look.colour, gid=gid)
    if at is not None:
        axes.axvline(at, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.grid(visible=False, axis="x")
    axes.set(title=title, xlabel=x, ylabel=y)
    _counts(axes.yaxis, 5)
    axes.xaxis.set_major_locator(MaxNLocator(10 if whole else 5, integer=whole))


@_plot(4.2, 2.3)
def threshold_curve(axes: Axes, title: str, x: str, at: Floats, kept: Floats, look: Look, chosen: float | None) -> None:
    """Slices kept (m,) at values (m,) of a knob; ``chosen`` is the arm's. Values over magnitudes get a log scale."""
    axes.plot(at, kept, look.dash, color=look.colour, lw=1.1)
    _marks(axes, Curve(look, at, kept), size=3)
    if chosen is not None:
        axes.axvline(chosen, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
    if at.min() > 0 and at.max() > 1000 * at.min():
        axes.set_xscale("log")
    axes.set(title=title, xlabel=x, ylabel="slices kept")
    axes.set_ylim(bottom=0)
    _counts(axes.yaxis, 5)


@_plot(6.4, 2.3)
def profile(
    axes: Axes, title: str, y: str, index: Floats, values: Sequence[Floats], kept: Bools, at: float, look: Look
) -> None:
    """Distances along a volume: ``values`` are (n,) to the slice before, and (n,) of dropped slices to their stand-in.

    Kept slices are marked below, the threshold ``at`` by a dashed line.
    """
    previous, stand_in = values
    axes.plot(index, previous, color=_INK, linewidth=0.9)
    axes.plot(index, stand_in, look.marker, color=look.colour, markersize=3.5)
    if np.isfinite(at):
        axes.axhline(at, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
    top = np.nanmax([*previous, *stand_in, at]) if np.isfinite([*previous, *stand_in, at]).any() else 1.0
    axes.vlines(index[kept], -0.12 * top, -0.03 * top, color=look.colour, linewidth=1.2)
    axes.set(title=title, xlabel="slice", ylabel=y)
    axes.grid(visible=False, axis="x")


def standalone(svg: Markup) -> str:
    """A plot of the page as an SVG file of its own, in the colours of the light page on white."""
    colours = {f"--arm-{number}": colour for number, colour in enumerate(_LIGHT)}
    colours |= {"--plot-ink": "#3a444c", "--plot-faint": "#d5dadf", "--sans": "sans-serif"}
    text = str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace("max-width", "width")
    return re.sub(r"var\((--[a-z0-9-]+)\)", lambda name: colours[name[1]], text)


def _counts(axis: Axis, most: int | None = None) -> None:
    """Write numbers as "1,234"; where ``most`` is given, at that many whole ones at most."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if most is not None:
        axis.set_major_locator(MaxNLocator(most, integer=True))


def _log_ticks(low: float, high: float) -> list[float]:
    """Ticks at 1, 2 and 5 times powers of ten that lie in low..high; at 1 alone where there are many."""
    decades = range(int(np.floor(np.log10(max(low, 1)))), int(np.ceil(np.log10(high))) + 1)
    mantissas = (1, 2, 5) if len(decades) <= 3 else (1,)
    return [m * 10.0**d for d in decades for m in mantissas if 0.8 * low <= m * 10.0**d <= 1.25 * high]


def _svg(draw: Callable[[Axes], None], inches: tuple[float, float]) -> Markup:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_style()):  # rcParams alone say that text stays text and which salt makes the ids
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        draw(axes)
        axes.set_title(fill(axes.get_title("left"), int(_LETTERS * inches[0])))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Markup(_inline(buffer.getvalue()))  # noqa: S704  # matplotlib escapes the text in it


@cache
def _style() -> RcParams:
    import matplotlib as mpl

    return mpl.rc_params_from_file(Path(__file__).with_name("plots.mplstyle"), use_default_template=False)


def _inline(svg: str) -> str:
    """Make a stand-alone SVG part of a page: no prolog, no style or id of its own, page fonts, page colours."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening, svg)
    svg = re.sub(rf"""<g id=(["']){_TIP}(.*?)\1>""", r"<g><title>\2</title>", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", svg)
    svg = re.sub(r"<[^>]+>", lambda tag: _short_numbers(tag[0]), svg)
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{own}-", svg.replace("xlink:href", "href"))
    for grey, variable in _VARIABLES.items():
        svg = svg.replace(grey, variable)
    return re.sub(r">\s+<", "><", svg)


def _opening(tag: re.Match[str]) -> str:
    """Grow to 1.35 times the drawn size at most, so that text is the same size in all plots."""
    width = 1.35 * float(tag[1].split()[2])
    return f'<svg viewBox="{tag[1]}" style="max-width: {width:.0f}px" aria-hidden="true" focusable="false">'


def _short_numbers(tag: str) -> str:
    """Two decimals place a point well enough, and halve the size."""
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    return re.sub(r"\d+\.\d{3,}", lambda digits: f"{float(digits[0]):.2f}", tag)
