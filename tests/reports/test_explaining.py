"""Explanations: pairs on both sides of the threshold, volumes from end to end, and shares of what is kept."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pydicom
import pytest
from PIL import Image

from ctkit import RevisitedArm, open_run, pipeline_file, plugins, runner
from ctkit.console.output import Console
from ctkit.files import read_csv
from ctkit.slices import rendering
from ctkit_datasets.phantom import Phantom, PhantomParams
from ctkit_reports import explaining, explanation, hounsfield
from ctkit_reports.explanation import write_explanation
from phantom_files import write_dicom

PHANTOM = PhantomParams(patients=3, slices=12, slice_spacing=4.0, matrix=64)
Open = Callable[..., RevisitedArm]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Choose with a reducer from a phantom, or from its DICOM files, and open the run."""
    with ExitStack() as stack:

        def _open(reducer: dict[str, Any], *, dicom: bool = False, images: bool = True) -> RevisitedArm:
            dataset = {"use": "phantom"} | PHANTOM.model_dump()
            if dicom:
                write_dicom(tmp_path / "MUELLER", Phantom(PHANTOM))
                dataset = {"use": "lidc-idri", "root": str(tmp_path / "MUELLER")}
            document = {
                "run": {"name": "x", "out": str(tmp_path / "run")},
                "compute": {"workers": 1},
                "report": {"images": images},
                "dataset": dataset,
                "reduce": [reducer | {"id": "arm"}],
            }
            registry, console = plugins.load(), Console(quiet=True)
            runner.run(pipeline_file.resolve(document, registry, tmp_path), registry, console, "select")
            return stack.enter_context(open_run(tmp_path / "run").revisit("arm", console))

        yield _open


def hashes(number: int) -> list[Any]:
    phantom = Phantom(PHANTOM)
    grey = rendering.evidence(phantom.read(phantom.volume(number)).values)
    return [imagehash.dhash(Image.fromarray(image)) for image in grey]


def test_pairs_lie_on_both_sides_of_the_threshold_at_the_distance_they_claim(opened: Open) -> None:
    run = opened({"use": "hash", "threshold": 4})
    codes = [code for number in range(3) for code in hashes(number)]
    alike, apart, kept = explaining.alike_pairs(run), explaining.apart_pairs(run), run.selection.kept
    assert alike
    assert apart
    for pair in (*alike, *apart):
        assert codes[pair.one] - codes[pair.stand_in] == pair.distance
        assert kept[pair.stand_in] or pair in apart
    assert all(pair.distance <= 4 and not kept[pair.one] for pair in alike)
    assert all(pair.distance > 4 and kept[pair.one] for pair in apart)
    assert [pair.distance for pair in alike] == sorted((pair.distance for pair in alike), reverse=True)
    assert [pair.distance for pair in apart] == sorted(pair.distance for pair in apart)
    assert len({pair.one for pair in alike}) == len(alike) <= explaining.PAIRS


def test_a_volume_is_profiled_slice_by_slice(opened: Open) -> None:
    run = opened({"use": "hash", "threshold": 4})
    one, codes = explaining.profile(run, 1), hashes(1)
    assert one.index.tolist() == list(range(12))
    assert np.isnan(one.previous[0])
    assert one.previous[1:].tolist() == [a - b for a, b in itertools.pairwise(codes)]
    np.testing.assert_array_equal(one.kept, run.selection.kept[12:24])
    np.testing.assert_array_equal(np.isnan(one.stand_in), one.kept)


def test_a_reducer_of_pairs_is_profiled_too(opened: Open) -> None:
    one = explaining.profile(opened({"use": "ssim", "threshold": 0.2}), 0)
    assert np.isfinite(one.previous[1:]).all()
    assert ((one.previous[1:] > 0) & (one.previous[1:] < 1)).all()


@pytest.mark.parametrize("reducer", [{"use": "every-n", "n": 3}, {"use": "all"}, {"use": "entropy", "threshold": 3}])
def test_a_reducer_that_compares_nothing_has_strips_alone(opened: Open, reducer: dict[str, Any]) -> None:
    found = explaining.explain(opened(reducer))
    assert found.alike == found.apart == ()
    assert len(found.profiles) == 3
    assert all(np.isnan(one.previous).all() for one in found.profiles)


def test_volumes_run_from_the_most_redundant_to_the_least(opened: Open) -> None:
    kept = [one.kept.mean() for one in explaining.explain(opened({"use": "hash", "threshold": 4})).profiles]
    assert kept == sorted(kept)
    assert len(kept) == 3


def test_shares_of_findings_and_traits_are_counted_from_the_selection(opened: Open, tmp_path: Path) -> None:
    write_dicom(tmp_path / "MUELLER", Phantom(PHANTOM))
    files = sorted((tmp_path / "MUELLER" / "LIDC-IDRI" / "LIDC-IDRI-0002").rglob("*.dcm"))
    headers = [pydicom.dcmread(path) for path in files]
    marks = "".join(f"<roi><imageSOP_UID>{header.SOPInstanceUID}</imageSOP_UID></roi>" for header in headers[:5])
    series = f"<SeriesInstanceUid>{headers[0].SeriesInstanceUID}</SeriesInstanceUid>"
    xml = f"<LidcReadMessage>{series}<unblindedReadNodule>{marks}</unblindedReadNodule></LidcReadMessage>"
    (files[0].parent / "1.xml").write_text(xml)
    run = opened({"use": "hash", "threshold": 4}, dicom=True)
    found = explaining.explain(run)
    rows = read_csv(tmp_path / "run" / "arms" / "arm" / "selection.csv")
    kept = {Path(row["source"]) for row in rows if row["kept"] == "true"}
    below = [path.relative_to(tmp_path / "MUELLER") for path in files]
    assert found.findings == (
        explaining.Share("all slices", 1, 12, len(kept & set(below))),
        explaining.Share("lesion that is not a nodule", 0, 0, 0),
        explaining.Share("nodule", 1, 5, left := len(kept & set(below[:5])), int(left == 0)),
    )
    write_explanation(tmp_path / "explain.html", found)
    said = (tmp_path / "explain.html").read_text(encoding="utf-8")
    assert 0 < left < 5
    words = "of 5 slices with “nodule” are dropped; every volume with it keeps at least one."
    assert f"Findings lost: {5 - left} {words}" in said
    assert found.traits["manufacturer"] == (explaining.Share("ctkit phantom", 3, 36, len(kept)),)


def test_a_finding_that_a_volume_loses_whole_is_said_first(opened: Open, tmp_path: Path) -> None:
    found = explaining.explain(opened({"use": "hash", "threshold": 4}, images=False))
    shares = [("all slices", 3, 36, 9, 0), ("cyst", 2, 6, 3, 0), ("nodule", 2, 4, 1, 1)]
    lost = replace(found, findings=tuple(explaining.Share(*share) for share in shares))
    write_explanation(tmp_path / "explain.html", lost)
    said = re.findall('class="headline">(.*?)</p>', (tmp_path / "explain.html").read_text(encoding="utf-8"))
    assert said[1:] == [
        "Findings lost: 3 of 4 slices with “nodule” are dropped, and 1 of 2 volumes with it keep none.",
        "Findings lost: 3 of 6 slices with “cyst” are dropped; every volume with it keeps at least one.",
    ]


def test_the_page_shows_all_of_it_and_names_nobody(opened: Open, tmp_path: Path) -> None:
    found = explaining.explain(opened({"use": "hash", "threshold": 4}, dicom=True))
    write_explanation(tmp_path / "explain.html", found)
    html = (tmp_path / "explain.html").read_text(encoding="utf-8")
    for words in (
        "Just below the threshold",
        "Just above the threshold",
        "Along volumes",
        "By manufacturer",
        "By kernel",
    ):
        assert words in html
    viewed = [found.profiles[place] for place in found.viewed]
    assert len(viewed) == 2
    assert html.count('<figure class="kept">') == sum(int(one.kept.sum()) for one in viewed)
    assert re.findall(r"<figcaption>(\d+)<span", html) == [str(n) for one in viewed for n in range(len(one.kept))]
    assert not any(secret in html for secret in ("MUELLER", "LIDC-IDRI-0001", str(tmp_path)))
    assert "http" not in html


def test_without_pixels_the_page_has_no_pictures(opened: Open, tmp_path: Path) -> None:
    found = explaining.explain(opened({"use": "hash", "threshold": 4}, images=False))
    assert found.images == {}
    write_explanation(tmp_path / "explain.html", found)
    html = (tmp_path / "explain.html").read_text(encoding="utf-8")
    assert "<img" not in html
    assert "data:image" not in html
    assert 'class="viewer"' not in html
    assert "Along volumes" in html


@pytest.mark.parametrize(
    ("scope", "why"), [("volume", "Its hashes take more than"), ("dataset", "This arm compares slices of all volumes")]
)
def test_a_page_that_has_no_slider_says_so(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str, why: str
) -> None:
    monkeypatch.setattr(explaining, "MOST_CODES", 35 * 8)
    run = opened({"use": "hash", "threshold": 4, "scope": scope})
    write_explanation(tmp_path / "explain.html", explaining.explain(run))
    html = (tmp_path / "explain.html").read_text(encoding="utf-8")
    assert 'id="at"' not in html
    assert why in html
    assert "so this page has no slider for the threshold. The command ctkit curve tells" in html


def test_pictures_are_hounsfield_units_of_the_slices(opened: Open) -> None:
    run = opened({"use": "hash", "threshold": 4})
    phantom = Phantom(PHANTOM)
    found = hounsfield.images(run, np.array([0, 13, 30]))
    assert sorted(found) == [0, 13, 30]
    for number, image in found.items():
        values = phantom.read(phantom.volume(number // 12)).values[number % 12].astype(np.float32)
        wanted = np.asarray(Image.fromarray(values).resize((256, 256), Image.Resampling.BILINEAR))
        for name, (centre, width) in hounsfield.WINDOWS.items():
            shown = hounsfield.table(centre, width)[image.codes]
            apart = np.abs(shown - np.clip((wanted - centre + width / 2) / width, 0, 1)).max()
            assert apart < (0.015 if name == "Brain" else 0.007), name


def test_values_that_are_no_hounsfield_units_are_shown_in_grey() -> None:
    class Grey(Phantom):
        def read(self, volume: Any, wanted: Any = None) -> Any:
            pixels = super().read(volume, wanted)
            return replace(pixels, values=pixels.values.astype(np.float32) / 7, unit="arbitrary")

    grey = Grey(PHANTOM)
    values = grey.read(grey.volume(0)).values
    item = hounsfield._Wanted("x", grey.volume(0), {3: 103}, (float(values.min()), float(values.max())))
    (image,) = hounsfield._read(grey, item).values()
    assert not image.is_hu
    assert image.codes.shape == (256, 256)
    assert np.ptp(image.codes) > 100


def test_a_page_of_noise_stays_below_ten_megabytes(opened: Open, tmp_path: Path) -> None:
    found = explaining.explain(opened({"use": "hash", "threshold": 4}))
    noise = np.random.default_rng(1).integers(0, 255, (4, 256, 256)).astype(np.uint8)  # the worst case
    profiles = tuple(replace(one, slices=40 * place + np.arange(40)) for place, one in enumerate(found.profiles))
    images = {n: hounsfield.Image(noise[n % 4], is_hu=True) for n in range(120)}
    for budget, many in ((1_500_000, 80), (150_000, 40), (1000, 0)):  # smaller pictures, then fewer volumes
        fitted = explanation.fitting(replace(found, profiles=profiles, images=images), budget)
        pictures = [picture for own in fitted.values() for picture in own.values()]
        assert len(pictures) == many
        assert sum(len(picture["uri"]) for picture in pictures) <= budget
    used = replace(found, images={number: hounsfield.Image(noise[0], is_hu=True) for number in found.images})
    write_explanation(tmp_path / "explain.html", used)
    assert (tmp_path / "explain.html").stat().st_size < 10e6


def test_hashes_are_for_the_page_only_where_it_can_choose_as_ctkit_does(opened: Open, monkeypatch: Any) -> None:
    run = opened({"use": "hash", "threshold": 4})
    found = explaining.explain(run).codes
    assert found is not None
    assert found.sizes == (12, 12, 12)
    codes = [code for number in range(3) for code in hashes(number)]
    own = [int(str(code), 16) for code in codes]
    assert [int(code) for code in found.codes[np.argsort(found.slices), 0]] == own
    monkeypatch.setattr(explaining, "MOST_CODES", 100)
    assert explaining.explain(run).codes is None


@pytest.mark.parametrize(
    "reducer", [{"use": "ssim", "threshold": 0.2}, {"use": "hash", "scope": "dataset"}, {"use": "every-n"}]
)
def test_other_choices_have_no_slider(opened: Open, tmp_path: Path, reducer: dict[str, Any]) -> None:
    found = explaining.explain(opened(reducer, images=False))
    assert found.codes is None
    write_explanation(tmp_path / "explain.html", found)
    assert 'id="at"' not in (tmp_path / "explain.html").read_text(encoding="utf-8")
