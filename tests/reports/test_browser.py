"""The pages in a real browser: no error, no request, accessible; plots, pairs, slider and scroller do what they say."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chromium import Chromium, Tab, program
from ctkit import CurveRow, open_run, pipeline_file, plugins, rendering, runner
from ctkit.console.output import Console
from ctkit_reports.explaining import explain
from ctkit_reports.explanation import write_explanation


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    found = program()
    if found is None:
        pytest.skip("no Chromium is installed")
    started = Chromium(found, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def explained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CurveRow]]:
    """The explanation of a hash arm of a phantom, and the arm's curve. Tests only read it."""
    folder = tmp_path_factory.mktemp("explained")
    document = {
        "run": {"name": "x", "out": str(folder / "run")},
        "compute": {"workers": 1},
        "dataset": {"use": "phantom", "patients": 3, "slices": 24, "slice_spacing": 4.0, "matrix": 96},
        "reduce": [{"use": "hash", "threshold": 4, "id": "arm"}],
    }
    registry, console = plugins.load(), Console(quiet=True)
    runner.run(pipeline_file.resolve(document, registry, folder), registry, console, "select")
    with open_run(folder / "run").revisit("arm", console) as arm:
        write_explanation(folder / "explain.html", explain(arm))
        return folder / "explain.html", arm.write_curve()


def sound(tab: Tab) -> None:
    """Nothing went wrong on a page, and nothing was asked of anybody."""
    assert tab.errors == []
    assert tab.requests == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_fits_its_window_and_its_tables_sort(browser: Chromium, full_page: Path, width: int) -> None:
    with browser.page(full_page, width) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        sections = "[...document.querySelectorAll('section')]"
        assert tab.evaluate(f"{sections}.filter((one) => one.offsetHeight < 80).length") == 0
        tab.evaluate("document.querySelector('table.sortable th button').click()")
        assert tab.evaluate("document.querySelectorAll('th[aria-sort]').length") == 1
        sound(tab)


def test_a_plot_opens_large_with_its_legend_and_titles_by_mouse_and_key(browser: Chromium, full_page: Path) -> None:
    dialog = "document.querySelector('dialog')"
    with browser.page(full_page) as tab:
        plot = "document.querySelector('#training .figures .plot')"
        tab.evaluate(f"{plot}.querySelector('svg').dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))")
        arms = f"[...{dialog}.querySelectorAll('.legend li')].map((one) => one.textContent)"
        assert tab.evaluate(arms) == ["all", "every-n-10", "hash6", "random-like-hash6"]
        tab.press("Escape", 27)
        assert not tab.evaluate(f"{dialog}.open")
        tab.evaluate("document.querySelector('#answer .plot button').focus()")
        tab.press(" ", 32)
        assert tab.evaluate(f"{dialog}.open")
        assert "hash6: 0.820 (0.783 to 0.857), 92 slices kept" in tab.evaluate(
            f"[...{dialog}.querySelectorAll('title')].map((one) => one.textContent)"
        )
        sound(tab)


def test_the_explanation_is_not_too_long_on_a_phone(browser: Chromium, explained: tuple[Path, list[CurveRow]]) -> None:
    with browser.page(explained[0], 390) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        height = tab.evaluate("document.documentElement.scrollHeight")
        pairs = "document.querySelectorAll('.pairs.large figure').length"
        assert tab.evaluate(pairs) > 8  # more are folded
        sound(tab)
    assert height < 12_000


def test_the_answer_and_its_picture_are_on_the_first_screen(browser: Chromium, full_page: Path) -> None:
    with browser.page(full_page, 1280, 900) as tab:
        bottom = tab.evaluate("document.querySelector('#answer .plot svg').getBoundingClientRect().bottom")
    assert bottom < 900


@pytest.mark.parametrize(("dark", "bright"), [(False, True), (True, False)], ids=["light", "dark"])
def test_the_report_follows_the_colour_scheme(
    browser: Chromium, full_page: Path, tmp_path: Path, dark: bool, bright: bool
) -> None:
    with browser.page(full_page, 1280, 1600, dark=dark) as tab, Image.open(tab.picture(tmp_path / "a.png")) as image:
        histogram = image.convert("L").histogram()
    assert (sum(histogram[128:]) > 0.85 * sum(histogram)) == bright
    assert (sum(histogram[:128]) > 0.75 * sum(histogram)) != bright


def test_the_report_prints_whole_and_without_waste(browser: Chromium, full_page: Path) -> None:
    with browser.page(full_page) as tab:
        pages = len(re.findall(rb"/Type\s*/Page\b", tab.paper()))
        sound(tab)
    assert 10 <= pages <= 18  # folded tables are open on paper; blocks that move to the next page leave little white


@pytest.mark.parametrize(("page", "dark"), [("report", False), ("explanation", True)])
def test_no_rule_of_axe_is_broken(
    browser: Chromium, full_page: Path, explained: tuple[Path, list[CurveRow]], page: str, dark: bool
) -> None:
    package = importlib.util.find_spec("axe_core_python")
    if package is None or package.origin is None:
        pytest.skip("axe-core-python, of the extra dev, is not installed")
    script = Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    with browser.page(full_page if page == "report" else explained[0], dark=dark) as tab:
        tab.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        tab.evaluate(f"{script}; 0")
        rules = "{ rules: { 'label-content-name-mismatch': { enabled: true } } }"
        broken = ".then((all) => all.violations.map((one) => [one.id, one.nodes[0].html]))"
        found = tab.evaluate(f"axe.run({rules}){broken}")
        tab.evaluate("document.querySelector('main').append(new Image())")
        control = tab.evaluate(f"axe.run({{ runOnly: ['image-alt'] }}){broken}")
    assert found == []
    assert control == [["image-alt", "<img>"]]


def test_the_slider_keeps_what_the_curve_says_at_every_threshold(
    browser: Chromium, explained: tuple[Path, list[CurveRow]]
) -> None:
    page, curve = explained
    with browser.page(page) as tab:
        shown = tab.evaluate(
            """[...Array(65).keys()].map((at) => {
              const slider = document.querySelector("#at");
              slider.value = at;
              slider.dispatchEvent(new Event("input"));
              return document.querySelector("#at-kept").textContent;
            })"""
        )
        framed = tab.evaluate("document.querySelectorAll('.along .kept').length")
        sound(tab)
    assert len({row.kept for row in curve}) > 10
    assert shown == [f"{row.at:.0f} bits: {row.kept} of 72 slices kept, {100 * row.share:.1f} %" for row in curve]
    assert framed == 2  # at 64 bits the first slice of each volume stands for all


def test_the_slider_is_moved_by_key_and_back(browser: Chromium, explained: tuple[Path, list[CurveRow]]) -> None:
    page, curve = explained
    with browser.page(page) as tab:
        tab.evaluate("document.querySelector('#at').focus()")
        tab.press("ArrowRight", 39)
        said = tab.evaluate("document.querySelector('#at').getAttribute('aria-valuetext')")
        tab.evaluate("document.querySelector('#at-again').click()")
        again = tab.evaluate("document.querySelector('#at-kept').textContent")
    assert said.startswith(f"5 bits: {curve[5].kept} of 72")
    assert again.startswith(f"4 bits: {curve[4].kept} of 72")


def test_the_scroller_shows_a_dropped_slice_beside_the_one_that_stands_for_it(
    browser: Chromium, explained: tuple[Path, list[CurveRow]]
) -> None:
    page, _ = explained
    choice = json.loads(re.findall(r'id="choice">(.*?)</script>', page.read_text(encoding="utf-8"))[0])
    volume = choice["volumes"][0]
    dropped = next(place for place, kept in enumerate(volume["kept"]) if not kept and volume["by"][place] > 0)
    stand = volume["by"][dropped]
    with browser.page(page) as tab:
        tab.evaluate("document.querySelector('.viewer input').focus()")
        for _ in range(dropped):
            tab.press("ArrowRight", 39)
        two = tab.evaluate(
            """[...document.querySelector(".viewer").querySelectorAll(".two figure")].map((one) => [
              one.querySelector("img").src === document.querySelectorAll(".viewer .along img")[PLACE].src,
              one.textContent.trim(), one.querySelector(".frame").classList.contains("kept")])
            """.replace("PLACE", str(dropped))
        )
        frames = tab.evaluate(
            "[...document.querySelectorAll('.along')].map((one) => one.querySelectorAll('.kept').length)"
        )
        sound(tab)
    index, far = volume["index"], f"{volume['distance'][dropped]:.0f} bits"
    assert far != "1 bits"
    assert two[0] == [True, f"Slice {index[dropped]}, dropped: slice {index[stand]} stands for it, {far}", False]
    assert two[1] == [False, f"Slice {index[stand]}, kept", True]
    assert frames == [sum(one["kept"]) for one in choice["volumes"]]


def test_pairs_are_large_and_open_in_one_place_to_flicker(
    browser: Chromium, explained: tuple[Path, list[CurveRow]]
) -> None:
    seen = """[...document.querySelectorAll(".stage img")].map((one) => {
      const { x, y, width } = one.getBoundingClientRect();
      return [getComputedStyle(one).visibility, x, y, width];
    })"""
    with browser.page(explained[0]) as tab:
        sizes = tab.evaluate("[...document.querySelectorAll('.pairs.large img')].map((one) => one.clientWidth)")
        tab.evaluate("document.querySelector('.pairs.large .compare').click()")
        first = tab.evaluate(seen)
        tab.press(" ", 32)
        second = tab.evaluate(seen)
        tab.evaluate("[...document.querySelectorAll('dialog .controls button')].at(-1).click()")
        pressed = tab.evaluate("document.querySelector('dialog [aria-pressed=true]')?.textContent")
        sound(tab)
    assert min(sizes) >= 192
    assert [one[0] for one in first] == ["visible", "hidden"]
    assert [one[0] for one in second] == ["hidden", "visible"]
    assert first[0][1:] == first[1][1:]  # the same place
    assert pressed == "Flicker"


@pytest.mark.parametrize(
    ("label", "window"), [("Lung", "lung"), ("Soft tissue", "abdomen"), ("Bone", "bone"), ("Brain", "brain")]
)
def test_windows_show_the_greys_of_hounsfield_units(
    browser: Chromium, tmp_path: Path, explained: tuple[Path, list[CurveRow]], label: str, window: str
) -> None:
    """A ramp of every Hounsfield unit, drawn by the page, against the rendering of training images."""
    from ctkit_reports import hounsfield, pictures

    ramp = np.resize(np.arange(-1350, 1300, 41 if window != "brain" else 1)[:256], (256, 256)).astype(np.int16)
    if window == "brain":
        ramp = np.resize(np.arange(-20, 110), (256, 256)).astype(np.int16)
    uri = pictures.as_png(hounsfield.coded(ramp), 256)
    with browser.page(explained[0], 1280, 900) as tab:
        labels = "[...document.querySelectorAll('.windows label')]"
        tab.evaluate(f"{labels}.find((one) => one.textContent.includes('{label}')).click()")
        tab.evaluate(
            f"""new Promise((done) => {{
              const image = new Image();
              image.className = "hu";
              image.style.cssText = "position: fixed; left: 0; top: 0; width: 256px; z-index: 9";
              image.onload = () => requestAnimationFrame(() => requestAnimationFrame(done));
              image.src = "{uri}";
              document.body.append(image);
            }})"""
        )
        with Image.open(tab.picture(tmp_path / "a.png")) as picture:
            seen = np.asarray(picture.convert("L").crop((0, 0, 256, 256))).astype(int)
    wanted = rendering.full_matrix(ramp[None], "HU", window)[0].astype(int)
    assert np.ptp(wanted) > 200
    assert np.abs(seen - wanted).max() <= (4 if window == "brain" else 2)
