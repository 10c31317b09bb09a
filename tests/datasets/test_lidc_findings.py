"""What explains a selection: the readers' XML and the headers, against pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest

from ctkit.contracts import Skipped, Volume, VolumeFacts
from ctkit_datasets.filters import RecipeParams
from ctkit_datasets.lidc_idri import LidcIdri
from ctkit_datasets.phantom import Phantom, PhantomParams
from phantom_files import write_dicom

PHANTOM = Phantom(PhantomParams(patients=1, slices=12, slice_spacing=20.0, matrix=32))


def volumes(root: Path, recipe: str = "standard") -> tuple[LidcIdri, list[Volume]]:
    dataset = LidcIdri(RecipeParams.model_validate({"root": root, "recipe": recipe}))
    headers = ((file, dataset.inspect(file)) for file in dataset.files())
    found = dataset.arrange((file, facts) for file, facts in headers if not isinstance(facts, Skipped))
    return dataset, [volume for volume in found if isinstance(volume, Volume)]


def mark(uid: str, inclusion: str = "TRUE") -> str:
    return f"<roi><inclusion>{inclusion}</inclusion><imageSOP_UID>{uid}</imageSOP_UID></roi>"


def reading(series: str, nodules: Sequence[str], others: Sequence[str] = (), root: str = "LidcReadMessage") -> str:
    sessions = f"<unblindedReadNodule>{''.join(nodules)}</unblindedReadNodule>" + "".join(
        f"<nonNodule><imageSOP_UID> {uid} </imageSOP_UID></nonNodule>" for uid in others
    )
    header = f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>"
    return f'<{root} xmlns="http://www.nih.gov">{header}<readingSession>{sessions}</readingSession></{root}>'


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A series of LIDC-IDRI's layout, from the head to the feet."""
    return write_dicom(tmp_path, PHANTOM)


@pytest.mark.parametrize("recipe", ["standard", "published"])
def test_marked_slices_are_found_whatever_order_the_volume_has(tmp_path: Path, files: list[Path], recipe: str) -> None:
    headers = [pydicom.dcmread(path) for path in files]
    uids = [str(header.SOPInstanceUID) for header in headers]
    marks = [mark(uids[4]), mark(uids[5]), mark(uids[4]), mark(uids[9], "FALSE"), mark("1.2.3")]
    text = reading(headers[0].SeriesInstanceUID, marks, [uids[0]])
    (files[0].parent / "069.xml").write_text(text, encoding="utf-8")
    dataset, (volume,) = volumes(tmp_path, recipe)
    found = dataset.facts(volume).findings
    named = {kind: {Path(volume.source(number)) for number in numbers} for kind, numbers in found.items()}
    below = [path.relative_to(tmp_path) for path in files]
    assert named == {"nodule": {below[4], below[5]}, "lesion that is no nodule": {below[0]}}


def test_a_reading_apart_from_the_scans_is_found_by_its_series(tmp_path: Path, files: list[Path]) -> None:
    header = pydicom.dcmread(files[3])
    folder = tmp_path / "LIDC-XML-only" / "tcia-lidc-xml" / "157"
    folder.mkdir(parents=True)
    (folder / "157.xml").write_text(reading("1.2.3", [mark(header.SOPInstanceUID)]))
    (folder / "158.XML").write_text(reading(header.SeriesInstanceUID, [mark(header.SOPInstanceUID)]))
    (folder / "159.xml").write_text("<LidcReadMessage>")
    dataset, (volume,) = volumes(tmp_path)
    (number,) = dataset.facts(volume).findings["nodule"]
    assert tmp_path / volume.source(number) == files[3]


@pytest.mark.parametrize(
    "text",
    [
        reading("1.2.3", [mark("1.2")]),
        reading("SERIES", [mark("1.2")], root="IdriReadMessage"),
        "<LidcReadMessage>",
        "<!DOCTYPE LidcReadMessage>" + reading("SERIES", [mark("1.2")]),
    ],
    ids=["of another series", "of a radiograph", "damaged", "with a document type"],
)
def test_a_file_that_is_no_reading_of_the_series_counts_for_nothing(
    tmp_path: Path, files: list[Path], text: str
) -> None:
    series = str(pydicom.dcmread(files[0]).SeriesInstanceUID)
    (files[0].parent / "069.xml").write_text(text.replace("SERIES", series), encoding="utf-8")
    dataset, (volume,) = volumes(tmp_path)
    assert dataset.facts(volume).findings == {}


def test_a_scan_that_was_read_without_a_finding_is_not_one_that_nobody_read(tmp_path: Path, files: list[Path]) -> None:
    text = reading(str(pydicom.dcmread(files[0]).SeriesInstanceUID), [])
    (files[0].parent / "069.xml").write_text(text, encoding="utf-8")
    dataset, (volume,) = volumes(tmp_path)
    assert dataset.facts(volume).findings == {"nodule": (), "lesion that is no nodule": ()}


def test_traits_come_from_the_header(tmp_path: Path, files: list[Path]) -> None:
    dataset, (volume,) = volumes(tmp_path)
    header = pydicom.dcmread(files[0])
    expected = {"manufacturer": header.Manufacturer, "kernel": header.ConvolutionKernel}
    assert dataset.facts(volume) == VolumeFacts(expected)


def test_files_that_went_away_explain_nothing(tmp_path: Path, files: list[Path]) -> None:
    dataset, (volume,) = volumes(tmp_path)
    for path in files:
        path.unlink()
    assert dataset.facts(volume) == VolumeFacts()


@pytest.mark.real
def test_the_readers_marks_on_a_real_scan_are_found(real_data: Path) -> None:
    dataset, found = volumes(real_data / "lidc-idri")
    facts = {volume.patient: dataset.facts(volume) for volume in found}
    read = facts["LIDC-IDRI-0306"]
    assert read.traits == {"manufacturer": "GE MEDICAL SYSTEMS", "kernel": "BONE"}
    assert read.findings["nodule"] == ()
    assert len(read.findings["lesion that is no nodule"]) == 8
    assert facts["LIDC-IDRI-0001"].findings == {}
