"""What explains a selection: the readers' XML and the headers, against pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
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
    assert named == {"nodule": {below[4], below[5]}, "lesion that is not a nodule": {below[0]}}


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
    assert dataset.facts(volume).findings == {"nodule": (), "lesion that is not a nodule": ()}


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


def segmentation(folder: Path, scan: Path, marked: Sequence[int], code: str = "M-03010", empty: int = 0) -> None:
    """A reader's outline of a nodule on some slices of a scan, as the standard lays it out (PS3.3 A.51)."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(scan.glob("*.dcm"))]
    found = pydicom.Dataset()
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = pydicom.uid.SegmentationStorage
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = pydicom.uid.generate_uid()
    found.Modality, found.SeriesInstanceUID = "SEG", pydicom.uid.generate_uid()
    found.Rows, found.Columns, found.BitsAllocated, found.NumberOfFrames = 5, 5, 1, len(marked) + empty
    referenced = pydicom.Dataset()
    referenced.SeriesInstanceUID = headers[0].SeriesInstanceUID
    found.ReferencedSeriesSequence = [referenced]
    kind = pydicom.Dataset()
    kind.CodeValue = code
    segment = pydicom.Dataset()
    segment.SegmentNumber, segment.SegmentedPropertyTypeCodeSequence = 1, [kind]
    found.SegmentSequence = [segment]
    masks = np.zeros((len(marked) + empty, 5, 5), bool)
    masks[: len(marked), 2, 3] = True  # 25 bits a frame: frames share bytes
    found.PixelData = np.packbits(masks.ravel(), bitorder="little").tobytes() + bytes(masks.size // 8 % 2)
    frames = []
    for number in [*marked, *range(empty)]:
        source, derivation, identification, frame = (pydicom.Dataset() for _ in range(4))
        source.ReferencedSOPInstanceUID = headers[number].SOPInstanceUID
        derivation.SourceImageSequence = [source]
        identification.ReferencedSegmentNumber = 1
        frame.DerivationImageSequence, frame.SegmentIdentificationSequence = [derivation], [identification]
        frames.append(frame)
    found.PerFrameFunctionalGroupsSequence = frames
    folder.mkdir(parents=True)
    found.save_as(folder / "0b1c.dcm", enforce_file_format=True)


def test_without_readings_nodules_come_from_segmentations(tmp_path: Path, files: list[Path]) -> None:
    scan, study = files[0].parent, files[0].parent.parent
    names = sorted(scan.glob("*.dcm"))
    segmentation(study / "seg-1", scan, [3, 4], empty=2)
    segmentation(study / "seg-2", scan, [7])
    segmentation(study / "seg-3", scan, [9], code="T-28000")  # the lung, say
    (study / "seg-4").mkdir()
    (study / "seg-4/damaged.dcm").write_bytes((study / "seg-1/0b1c.dcm").read_bytes()[:-300])
    dataset, (volume,) = volumes(tmp_path)
    found = dataset.facts(volume).findings
    assert {tmp_path / volume.source(number) for number in found["nodule"]} == {names[3], names[4], names[7]}
    assert list(found) == ["nodule"]


def test_a_segmentation_of_another_scan_says_nothing(tmp_path: Path, files: list[Path]) -> None:
    segmentation(files[0].parent.parent / "seg", files[0].parent, [3])
    path = files[0].parent.parent / "seg/0b1c.dcm"
    other = pydicom.dcmread(path)
    other.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
    other.save_as(path)
    dataset, (volume,) = volumes(tmp_path)
    assert dataset.facts(volume).findings == {}


def test_random_names_tell_no_order_for_the_published_recipe(tmp_path: Path, files: list[Path]) -> None:
    published = LidcIdri(RecipeParams.model_validate({"root": tmp_path, "recipe": "published"}))
    assert list(published.check(None)) == []
    for number, path in enumerate(files):
        path.rename(path.with_name(f"0a1b2c3d-0000-4000-8000-{number:012x}.dcm"))
    (problem,) = published.check(None)
    assert 'use recipe = "standard"' in problem
    assert list(LidcIdri(RecipeParams.model_validate({"root": tmp_path})).check(None)) == []


@pytest.mark.real
def test_the_readers_marks_on_a_real_scan_are_found(real_data: Path) -> None:
    dataset, found = volumes(real_data / "lidc-idri")
    facts = {volume.patient: dataset.facts(volume) for volume in found}
    read = facts["LIDC-IDRI-0306"]
    assert read.traits == {"manufacturer": "GE MEDICAL SYSTEMS", "kernel": "BONE"}
    assert read.findings["nodule"] == ()
    assert len(read.findings["lesion that is not a nodule"]) == 8
    assert facts["LIDC-IDRI-0001"].findings == {}
