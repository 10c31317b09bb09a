"""The page as a whole: what is on it, and what must not be."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from ctkit import open_run
from ctkit.errors import RequestError
from ctkit.files import read_csv, write_csv
from ctkit_reports.elements import Looks
from ctkit_reports.page import write_curve_plot, write_report
from ctkit_reports.sections import answer

VOID = frozenset({"meta", "link", "br", "img", "col", "input", "hr"})


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element, at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self) -> list[str | None]:
        return [section["id"] for section in self.all("section")]


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def html(full_page: Path) -> str:
    return full_page.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def page(html: str) -> Page:
    return Page(html)


def test_a_whole_run_has_every_section_in_order(page: Page) -> None:
    assert page.sections == ["answer", "arms", "choice", "training", "tasks", "data", "provenance"]


def test_a_selection_has_no_section_on_training_and_tasks(selection_run: Path) -> None:
    page = page_of(selection_run)
    assert page.sections == ["answer", "arms", "choice", "data", "provenance"]
    assert "This run has selections only" in page.text


def test_the_first_screen_answers_in_words_and_as_a_picture(page: Page) -> None:
    words = page.text.partition("The answer")[2].replace("\N{NO-BREAK SPACE}", " ")
    words = words.partition("The answer")[2]  # after the table of sections
    assert words.startswith(
        " “every-n-10” keeps 9.8 % of the slices. Compared with “all”: no difference shown in both comparisons."
        " “hash6” keeps 14.3 % of the slices. Compared with “all”: better in both comparisons. Compared with"
        " “random-like-hash6”, which keeps as many: better in both comparisons. "
    )
    described = [attributes.get("aria-label") or "" for _, attributes in page.elements]
    plots = [label for label in described if label.startswith("AUC against slices kept")]
    assert len(plots) == 2
    assert "hash6 0.820 with 92 slices" in plots[0]


@pytest.mark.parametrize(
    ("run", "known", "unknown"),
    [
        ("full_run", ("Arm", "linear", "k-NN", "AUC"), ("untrained", "finetune")),
        ("baseline_run", ("Arm", "linear", "untrained"), ("k-NN",)),
        ("selection_run", ("Arm",), ("linear", "AUC", "Interval")),
    ],
)
def test_words_are_explained_where_they_occur(
    request: pytest.FixtureRequest, run: str, known: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    explained = dict(answer.answer(found := open_run(request.getfixturevalue(run)), Looks.of(found))["terms"])
    assert set(known) <= explained.keys()
    assert not set(unknown) & explained.keys()


def test_scores_stand_in_one_table_and_differences_in_another(page: Page) -> None:
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Arm Slices kept Cost covid-ct, linear organs, knn all 643 100 % 100 % 0.780 0.743 to 0.817" in text
    assert "hash6 92 14.3 % 17.5 % 0.820 0.783 to 0.857" in text
    differences = text.partition("All differences in AUC")[2].partition("Differences in other metrics")[0]
    assert "hash6 all covid-ct, linear +0.040 +0.008 to +0.072 0.045 p = 0.022 better paired bootstrap" in differences
    assert differences.count("no difference shown") == 4
    assert differences.count("paired bootstrap") == 8  # two arms and the chosen one, against all; and it against random


def test_elements_are_balanced_and_ids_are_unique(page: Page) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_references_inside_plots_resolve(html: str) -> None:
    ids = set(re.findall(r'\bid="([^"]+)"', html))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) | set(re.findall(r'<use href="#([^"]+)"', html)) <= ids


def test_nothing_is_loaded_from_elsewhere(html: str, page: Page) -> None:
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert "http" not in re.sub(r"data:[^\"]*", "", html)
    assert "@import" not in html


def leaks(html: str, secrets: tuple[str, ...]) -> list[str]:
    words = re.sub(r"data:image/[^\"]*", "", html).lower()  # any four letters may occur in a picture's bytes
    return [secret for secret in secrets if secret.lower() in words]


def test_no_name_number_date_or_path_of_the_sources_is_on_the_page(html: str, secrets: tuple[str, ...]) -> None:
    assert leaks(html, secrets) == []


def test_failures_name_no_path_either(failed_run: Path, secrets: tuple[str, ...]) -> None:
    assert leaks(write_report(failed_run).read_text(encoding="utf-8"), secrets) == []


def test_patients_are_counted_and_not_named(full_run: Path, html: str) -> None:
    patients = {row["patient"] for row in read_csv(full_run / "volumes.csv")}
    assert not any(patient in html for patient in patients)
    assert "5 volumes of 5 patients" in html


def test_volumes_of_which_nothing_can_be_read_are_counted_apart(full_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(full_run, tmp_path / "run"))
    rows = read_csv(run / "volumes.csv")
    rows[0]["slices"] = "0"
    write_csv(run / "volumes.csv", list(rows[0]), [list(row.values()) for row in rows])
    html = write_report(run).read_text(encoding="utf-8")
    assert "5 volumes of 5 patients; 1 of the volumes cannot be read" in html
    assert " · 4 volumes · " in html
    assert "(0 to " not in html.partition("per volume")[2][:100]


def test_reasons_for_leaving_files_out_are_counted(page: Page) -> None:
    assert "not a CT image 2" in page.text
    assert "cannot read …: no pixels 1" in page.text


def test_tables_say_what_they_are_and_pictures_are_described(page: Page) -> None:
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("alt" in image for image in page.all("img"))
    assert all(element["aria-label"] for _, element in page.elements if element.get("role") == "img")
    assert page.all("html") == [{"lang": "en"}]


def test_headings_skip_no_level_and_each_page_has_one_title(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(deeper <= level + 1 for level, deeper in itertools.pairwise(levels))


def test_what_can_be_scrolled_is_reached_by_key_and_has_a_name(page: Page) -> None:
    scrolled = [div for div in page.all("div") if div.get("class") == "scroll"]
    assert scrolled
    assert all(div["tabindex"] == "0" and div["aria-label"] and div["role"] == "group" for div in scrolled)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(html: str, scheme: int) -> None:
    roots = re.findall(r":root \{(.*?)\}", html, re.DOTALL)
    colour = dict(re.findall(r"--([a-z0-9-]+): #([0-9a-f]{6})", " ".join(roots[: scheme + 1])))
    deepest = int(re.findall(r"--deepest: (\d+)%", roots[scheme])[0]) / 100
    rgb = {name: np.array([int(value[i : i + 2], 16) for i in (0, 2, 4)]) / 255 for name, value in colour.items()}
    rgb["cell"] = deepest * rgb["shade"] + (1 - deepest) * rgb["raised"]
    words = itertools.product(("ink", "quiet", "link", "better", "worse", "none", "plot-ink"), ("paper", "raised"))
    for front, behind in [*words, ("ink", "cell"), ("ink", "caution")]:
        assert contrast(rgb[front], rgb[behind]) >= 4.5, f"{front} on {behind}"
    for arm in range(8):
        assert contrast(rgb[f"arm-{arm}"], rgb["paper"]) >= 3, f"arm {arm}"


def contrast(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Ratio of two sRGB colours (3,) in 0..1, by WCAG 2.2; words need 4.5, lines and marks 3."""
    linear = np.where((pair := np.stack([one, other])) <= 0.04045, pair / 12.92, ((pair + 0.055) / 1.055) ** 2.4)
    darker, lighter = sorted((linear @ [0.2126, 0.7152, 0.0722]).tolist())
    return float((lighter + 0.05) / (darker + 0.05))


def test_without_pixels_there_are_no_pictures(study: Callable[..., Any]) -> None:
    page = page_of(study(images=False, tasks=()).write())
    assert page.all("img") == []
    assert "choice" in page.sections


def test_dropped_slices_without_a_stand_in_are_shown_alone(selection_run: Path) -> None:
    file = selection_run / "arms" / "every-n-10" / "pictures.npz"
    slices = np.full((3, 32, 32), 90, np.uint8)
    np.savez(file, kept=slices, dropped=slices, stand_in=slices[:0], distance=np.empty(0, np.float32))
    labels = [element.get("aria-label") for _, element in page_of(selection_run).elements]
    assert "3 examples of slices that every-n-10 dropped" in labels


def test_an_arm_with_a_curve_shows_what_other_thresholds_would_keep(selection_run: Path) -> None:
    rows = [(at, 643 - 9 * at, (643 - 9 * at) / 643) for at in range(65)]
    write_csv(selection_run / "arms" / "hash6" / "curve.csv", ("at", "kept", "share"), rows)
    labels = [element.get("aria-label") for _, element in page_of(selection_run).elements]
    assert "Slices that hash6 would keep by its threshold: 643 at 0, 67 at 64." in labels


def test_a_plot_of_its_own_needs_no_page(selection_run: Path) -> None:
    write_csv(selection_run / "arms" / "hash6" / "curve.csv", ("at", "kept", "share"), [(0, 643, 1), (1, 90, 0.14)])
    svg = write_curve_plot(selection_run, "hash6").read_text(encoding="utf-8")
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in svg
    with pytest.raises(RequestError, match=r"arm 'all' of .* has no curve\.csv"):
        write_curve_plot(selection_run, "all")


def test_a_run_that_failed_in_part_says_what_is_missing(failed_run: Path) -> None:
    text = page_of(failed_run).text
    assert "Some parts of the run failed" in text
    assert "Pre-training of hash6, simclr, seed-43 failed: cannot read …: disk gone" in text
    assert "ssim: no selection" in text
    assert "all, simclr, seed 43: no backbone" in text
    assert "no arm is called better or worse" in text


def test_a_baseline_stands_beside_the_arms_and_shows_what_pre_training_bought(baseline_run: Path) -> None:
    page = page_of(baseline_run)
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "scored 0.100 AUC above “all” (95 % interval −0.020 to +0.200, adjusted p = 0.060: no difference shown)",
        "Pre-training scored 0.150 AUC above “untrained” in the mean: better in 2 of 2 comparisons.",
        "all untrained lesion, linear +0.100 +0.010 to +0.200 0.040 p = 0.020 better DeLong",
        "hash6 AUC 0.900 0.014",  # SD over seeds
        "lesion: test: 1 of 80 images are near-duplicates of a slice (hash6).",
        "80 test images; positive: ill.",
        "C = 1 was chosen (4 runs)",
    ):
        assert words in text
    described = [attributes["aria-label"] or "" for _, attributes in page.elements if "aria-label" in attributes]
    assert "AUC of each seed and repeat: all 0.780, 0.800, 0.800, 0.820; " in " ".join(described)
    assert any(label.startswith("ROC curves") and "untrained" in label for label in described)


def test_a_run_that_has_only_begun_has_a_report(study: Callable[..., Any]) -> None:
    begun = study(arms=(), tasks=(), volumes={"aa": 3})
    begun.provenance(state="running", finished=None)
    page = page_of(begun.folder)
    assert page.sections == ["answer", "provenance"]
    assert "The run is not complete (running)" in page.text


def test_several_methods_protocols_and_shares_of_labels_are_told_apart(failed_run: Path) -> None:
    rows = [list(row.values()) for row in read_csv(failed_run / "results.csv")]
    less = [[*row[:1], "swav", *row[2:4], "0.1", *row[5:]] for row in rows]
    write_csv(failed_run / "results.csv", list(read_csv(failed_run / "results.csv")[0]), rows + less)
    text = page_of(failed_run).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "lesion, knn, all labels, simclr" in text
    assert "lesion, knn, 10 % of the labels, swav" in text


def test_scores_with_several_shares_of_the_labels_have_a_curve(failed_run: Path) -> None:
    rows = [list(row.values()) for row in read_csv(failed_run / "results.csv")]
    less = [[*row[:4], "0.1", *row[5:]] for row in rows]
    write_csv(failed_run / "results.csv", list(read_csv(failed_run / "results.csv")[0]), less + rows)
    page = page_of(failed_run)
    described = " ".join(
        attributes["aria-label"] or "" for _, attributes in page.elements if "aria-label" in attributes
    )
    assert "AUC with fewer labels: all simclr 0.780 with 10\N{NO-BREAK SPACE}% of the labels, 0.780 with" in described


def test_names_are_escaped(study: Callable[..., Any]) -> None:
    made = study(tasks=(("<b>$task", "knn", ("no & yes", "<yes>"), 40),), seeds=(42,))
    page = page_of(made.write())
    assert page.all("b") == page.all("yes") == []
    assert "<b>$task, knn" in page.text


def test_many_volumes_become_histograms(study: Callable[..., Any]) -> None:
    made = study(tasks=(), arms=("all",), volumes={f"{number:08x}": 20 + number % 7 for number in range(60)})
    page = page_of(made.write())
    assert any((element.get("aria-label") or "").startswith("Slices per volume") for _, element in page.elements)
    assert "Volumes, by digest" not in page.text


def test_the_same_files_give_the_same_page(selection_run: Path) -> None:
    assert write_report(selection_run).read_bytes() == write_report(selection_run).read_bytes()


def test_many_arms_stay_below_ten_megabytes(study: Callable[..., Any]) -> None:
    made = study(tasks=(), side=256)
    made.write()
    noise = np.random.default_rng(1).integers(0, 255, (24, 256, 256)).astype(np.uint8)  # the worst case for JPEG
    for arm in made.folder.glob("arms/*"):
        np.savez(arm / "pictures.npz", kept=noise, dropped=noise, stand_in=noise, distance=np.zeros(24, np.float32))
    assert write_report(made.folder).stat().st_size < 10e6


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"is not a run folder: it has no run\.json"):
        write_report(tmp_path)


def test_pre_training_says_how_it_went(page: Page) -> None:
    columns = "Arm Seeds Steps Epochs Batch Cost Time Slices/s Waiting for data Energy GPU memory Device"
    assert f"Cost of pre-training, as a share of the reference {columns}" in page.text
    columns = "Arm Seeds Loss at the end Near-duplicate pairs Spread of features Effective rank"
    assert f"How pre-training went {columns}" in page.text
    assert "11.0 GiB" in page.text
    assert "they cannot be compared between arms" in page.text  # spread and rank: each arm's are of its own slices
    shown = [plot["aria-label"] or "" for plot in page.all("div") if plot.get("role") == "img"]
    order = [
        "Loss",
        "Near-duplicate pairs in a batch",
        "Spread of features",
        "Effective rank of features",
        "Learning rate",
    ]
    assert [label.partition(" over steps")[0] for label in shown if " over steps" in label] == order


def test_a_method_that_measures_nothing_more_has_no_such_columns(study: Callable[..., Any]) -> None:
    run = study(arms=("all",), seeds=(42,)).write()
    (file,) = run.glob("arms/all/simclr/seed-42/pretrain.json")
    facts = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({key: facts[key] for key in facts.keys() - {"waiting", "joules", "peak_bytes"}}))
    history = file.with_name("history.csv")
    write_csv(history, ("step", "name", "value"), [(1, "loss", 3.0), (2, "loss", 2.5)])
    words = page_of(run).text
    assert "How pre-training went Arm Seeds Loss at the end all 1 2.5" in words
    assert "Waiting for data" not in words
    assert "Near-duplicate pairs:" not in words


def test_a_curve_of_single_points_is_not_drawn(study: Callable[..., Any]) -> None:
    run = study(arms=("all",), seeds=(42,)).write()
    (history,) = run.glob("arms/all/simclr/seed-42/history.csv")
    write_csv(history, ("step", "name", "value"), [(1, "loss", 3.0), (2, "loss", 2.5), (2, "feature-std", 0.01)])
    page = page_of(run)
    described = [attributes.get("aria-label") or "" for _, attributes in page.elements]
    assert [label for label in described if " over steps" in label] == ["Loss over steps. all, seed 42: ends at 2.5."]
    assert "0.01" in page.text.partition("How pre-training went")[2]


@pytest.fixture
def mistaken_run(study: Callable[..., Any]) -> Callable[[bool], Path]:
    """Two arms of one task, with a picture for each test image."""

    def write(images: bool) -> Path:
        task = ("covid-ct", "linear", ("non", "covid"), 90)
        folder = study(arms=("all", "hash6"), tasks=(task,), seeds=(42,), images=images).write()
        rows = np.arange(1, 91)
        pictures = np.repeat(rows[:, None, None], 32, 1).repeat(32, 2).astype(np.uint8)
        np.savez(folder / "mistakes.npz", **{"covid-ct/rows": rows, "covid-ct/images": pictures})
        return folder

    return write


def test_confident_mistakes_are_shown_with_who_takes_them_for_what(mistaken_run: Callable[[bool], Path]) -> None:
    page = page_of(mistaken_run(True))
    assert "by mean prediction" not in page.text  # the pictures say the same
    listed = re.findall(r"(?:all|hash6) (\d+) (non|covid) (non|covid) 0\.\d{3}", page_of(mistaken_run(False)).text)
    shown = [image["alt"] for image in page.all("img") if (image["alt"] or "").startswith("Row ")]
    assert len(listed) > 4
    assert sorted(shown) == sorted({f"Row {row}: {true}" for row, true, _ in listed})
    assert len(re.findall(r"as (?:non|covid) \(0\.\d\d\)", page.text)) == len(listed)


def test_without_pixels_mistakes_are_not_shown(mistaken_run: Callable[[bool], Path]) -> None:
    page = page_of(mistaken_run(False))
    assert page.all("img") == []
    assert "The most confident mistakes, by mean prediction" in page.text
