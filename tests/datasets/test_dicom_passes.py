"""Several scans under one SeriesInstanceUID, as archives hold them: each is a volume, and no other slice is in it.

In soft tissue the first scan has 40 HU, the second one 100 HU, so that mixing shows. Kinds of input after public
reports about other tools, which are named beside them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ctkit.contracts import SourceFile, Volume
from ctkit_datasets.dicom import Dicom
from ctkit_datasets.dicom_passes import _Decoder
from ctkit_datasets.dicom_series import arrange_series
from ctkit_datasets.filters import SeriesParams
from dicom_facts import header

Slices = Callable[..., Dataset]
Write = Callable[..., list[Path]]
Scan = Callable[..., tuple[list[Volume], dict[str, str]]]
Found = list[tuple[int, int]]  #: of each volume, slices and HU of its tissue; 0 HU where they are mixed
Make = Callable[[Slices], Iterator[Dataset]]

FIRST, SECOND = 40, 100  #: HU
TOLD = "one of 2 scans in its series, told apart by "
UNCLEAR = "several different slices of its series have the same height, and they cannot be assigned to scans"
FOLDERS = "its series is in 2 folders whose heights overlap: perhaps not one scan"
DUPLICATE = "duplicate: the same pixels as another slice of its series at the same height"


def ct(make_slice: Slices, k: int, scan: int = 0, z: float | None = None, **tags: Any) -> Dataset:
    """Slice ``k`` of a scan: tissue, a lung that grows with k, and noise."""
    values = np.random.default_rng([k, scan]).normal((FIRST, SECOND)[scan % 2], 2, (24, 24))
    values[4 : 5 + k % 16, 4:8] = -850
    pixels = (np.rint(values) + 1024).astype(np.int16)
    return make_slice(2.5 * k if z is None else z, pixels, **{"InstanceNumber": k + 1} | tags)


def two(count: int = 6, **tags: tuple[Any, Any]) -> Make:
    """Two scans of the same heights that differ in ``tags``; instances are numbered through each of them."""

    def make(make_slice: Slices) -> Iterator[Dataset]:
        for scan, k in ((scan, k) for scan in (0, 1) for k in range(count)):
            yield ct(make_slice, k, scan, **{name: values[scan] for name, values in tags.items()})

    return make


def in_order(order: list[tuple[int, int]], *names: str, start: int = 0, step: float = 1) -> Make:
    """Slices (number, scan) whose elements ``names`` count on from one to the next."""

    def make(make_slice: Slices) -> Iterator[Dataset]:
        for number, (k, scan) in enumerate(order):
            value = start + step * number
            time = f"{int(value) // 3600:02d}{int(value) // 60 % 60:02d}{value % 60:09.6f}"
            tags = {name: time if name.endswith("Time") else int(value) for name in names}
            yield ct(make_slice, k, scan, **{"InstanceNumber": 1} | tags)

    return make


def up_and_down(passes: int, count: int) -> list[tuple[int, int]]:
    return [(k, p % 2) for p in range(passes) for k in range(count)[:: -1 if p % 2 else 1]]


def found(volumes: list[Volume], root: Path) -> Found:
    """Return what ``Found`` says of volumes, read as a run reads them."""
    dataset = Dicom(SeriesParams(root=root))
    counts = []
    for volume in volumes:
        pixels = dataset.read(volume)
        assert not pixels.skipped
        tissue = {
            min((FIRST, SECOND), key=lambda hu, v=values: abs(np.median(v[v > -100]) - hu)) for values in pixels.values
        }
        counts.append((len(volume), tissue.pop() if len(tissue) == 1 else 0))
    return counts


@pytest.fixture
def scanned(make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path) -> Callable[..., Any]:
    """Writes slices under random names, and scans them: what is found, notes of each volume, and reasons."""

    def scanned(make: Make, folders: Callable[[int], str] = lambda number: "") -> tuple[Found, list[Any], list[str]]:
        slices = list(make(make_slice))
        draw = random.Random(3)
        write_slices(slices, [f"{folders(number)}{draw.getrandbits(60)}.dcm" for number in range(len(slices))])
        volumes, skipped = scan()
        return found(volumes, tmp_path / "data"), [volume.notes for volume in volumes], list(skipped.values())

    return scanned


# --- told apart ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(two(NominalPercentageOfCardiacPhase=(30.0, 75.0)), "phase (30 %)", id="cardiac phase"),
        pytest.param(two(NominalPercentageOfRespiratoryPhase=(0.0, 50.0)), "phase (0 %)", id="respiratory phase"),
        pytest.param(two(TriggerTime=(0, 400)), "trigger delay (0 ms)", id="trigger time"),  # MultiVolumeImporter #29
        pytest.param(two(TemporalPositionIdentifier=(1, 2)), "temporal position", id="temporal position"),
        pytest.param(two(KVP=(80, 140)), "tube voltage (80 kV)", id="tube voltage"),  # dcm2niix #300
        pytest.param(two(ConvolutionKernel=("B30f", "B70f")), "kernel (B30f)", id="kernel"),
        pytest.param(two(ConvolutionKernel=("DOE^JANE", "B70f")), "kernel (B70f)", id="kernel that is a name"),
        pytest.param(two(SliceThickness=(1, 5)), "slice thickness (1 mm)", id="thickness"),
        pytest.param(two(SeriesDescription=("Mono 40 keV", "Mono 70 keV")), "energy (40 keV)", id="energy in words"),
        pytest.param(two(ImageComments=("40keV", "70keV")), "energy (40 keV)", id="energy in a comment"),
        pytest.param(two(ImageComments=("diastole", "systole")), "comment", id="comment"),
        pytest.param(two(ImageType=(["ORIGINAL", "PRIMARY"], ["DERIVED", "PRIMARY"])), "image type", id="image type"),
        pytest.param(two(AcquisitionTime=("100000.5", "100010.5")), "acquisition time", id="times of two scans"),
        pytest.param(two(ContentTime=("100000", "100010")), "time of the image", id="times of two series"),
        pytest.param(two(FilterType=("A", "B")), "element (0018,1160)", id="any other element"),
        pytest.param(
            in_order([(k, scan) for scan in (0, 1) for k in range(6)], "InstanceNumber"),  # SimpleITK #879
            "order of the instances", id="instance number",
        ),
        pytest.param(
            in_order([(k, scan) for k in range(6) for scan in (0, 1)], "InstanceNumber"),
            "order of the instances", id="instance number, scans in turn",
        ),
        pytest.param(
            in_order([(3 * slab + k, scan) for slab in (0, 1) for scan in (0, 1) for k in range(3)], "InstanceNumber"),
            "order of the instances", id="instance number, scans in turn by slab",
        ),
        pytest.param(in_order(up_and_down(2, 6), "InstanceNumber"), "order of the instances", id="shuttle, numbers"),
        pytest.param(in_order(up_and_down(2, 6), "AcquisitionTime"), "acquisition time", id="shuttle, times"),
        pytest.param(
            in_order(up_and_down(2, 6), "AcquisitionNumber", step=0.34), "acquisition number", id="shuttle, rotations"
        ),
    ],
)  # fmt: skip
def test_two_scans_under_one_series_uid_are_two_volumes(scanned: Callable[..., Any], make: Make, told: str) -> None:
    volumes, notes, skipped = scanned(make)
    assert sorted(volumes) == [(6, FIRST), (6, SECOND)]
    assert TOLD + told in {*notes[0], *notes[1]}
    assert not skipped


def private_energies(make_slice: Slices) -> Iterator[Dataset]:
    for k, scan in ((k, scan) for k in range(6) for scan in (0, 1)):
        data = ct(make_slice, k, scan)
        data.private_block(0x0053, "GEMS_CT_HINO_01", create=True).add_new(0x70, "LO", ("40", "70")[scan])
        yield data


def test_a_private_element_tells_energies_apart(scanned: Callable[..., Any]) -> None:
    volumes, notes, _ = scanned(private_energies)
    assert volumes == [(6, FIRST), (6, SECOND)]
    assert notes[0] == (TOLD + "element (0053,1070)",)


def test_phases_of_two_kernels_are_a_volume_each(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        for phase, kernel, k in ((p, n, k) for p in range(4) for n in (0, 1) for k in range(3)):
            tags = {"NominalPercentageOfCardiacPhase": 25.0 * phase, "ConvolutionKernel": ("B30f", "B70f")[kernel]}
            yield ct(make_slice, k, kernel, **tags)

    volumes, notes, _ = scanned(make)
    assert volumes == [(3, FIRST), (3, SECOND)] * 4
    assert notes[3] == ("one of 4 scans in its series, told apart by phase (25 %)", TOLD + "kernel (B70f)")


def test_passes_beyond_ten_keep_their_order(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        for phase, k in ((phase, k) for phase in range(12) for k in range(3)):
            yield ct(make_slice, k, phase % 2, TemporalPositionIdentifier=phase + 1)

    assert scanned(make)[0] == [(3, FIRST), (3, SECOND)] * 6


@pytest.mark.parametrize("start", [0.0, 0.6], ids=["common heights", "other heights"])
def test_thick_slices_among_thin_ones_are_a_volume_of_their_own(scanned: Callable[..., Any], start: float) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        yield from (ct(make_slice, k, z=1.25 * k, SliceThickness=1.25) for k in range(13))
        yield from (ct(make_slice, 4 * k, 1, z=5.0 * k + start, SliceThickness=5) for k in range(4))

    volumes, notes, _ = scanned(make)  # OHIF #3647
    assert volumes == [(13, FIRST), (4, SECOND)]
    assert notes[1] == (TOLD + "slice thickness (5 mm)",)


def test_two_kernels_at_heights_between_each_other_are_two_volumes(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        for k, scan in ((k, scan) for k in range(6) for scan in (0, 1)):
            yield ct(make_slice, k, scan, z=2.5 * k + 1.25 * scan, ConvolutionKernel=("B30f", "B70f")[scan])

    assert scanned(make)[0] == [(6, FIRST), (6, SECOND)]


@pytest.mark.parametrize(("step", "digits"), [(2.5, 2), (0.625, 1)])
def test_heights_that_differ_by_rounding_are_one(scanned: Callable[..., Any], step: float, digits: int) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        for k in range(8):
            yield ct(make_slice, k, 0, z=step * k + 0.004, SliceThickness=step, TriggerTime=0)
            yield ct(make_slice, k, 1, z=round(step * k, digits), SliceThickness=step, TriggerTime=400)

    assert scanned(make)[0] == [(8, FIRST), (8, SECOND)]


@pytest.mark.parametrize("thickness", ["0", "-2.5", ""])
def test_a_thickness_that_is_none_tells_no_heights_apart(scanned: Callable[..., Any], thickness: str) -> None:
    make = two(SliceThickness=(thickness, thickness), TriggerTime=(0, 400))
    assert scanned(make)[0] == [(6, FIRST), (6, SECOND)]


def test_phases_of_a_tilted_gantry_are_two_volumes(scanned: Callable[..., Any]) -> None:
    tilted = [1, 0, 0, 0, 0.9396926, -0.3420201]
    make = two(TriggerTime=(0, 400), ImageOrientationPatient=(tilted, tilted))
    volumes, notes, _ = scanned(make)
    assert volumes == [(6, FIRST), (6, SECOND)]
    assert notes[0][0] == "gantry tilt 20.0 degrees"


def test_trigger_delays_that_scatter_tell_phases_apart(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        draw = random.Random(1)
        for k, scan in ((k, scan) for k in range(10) for scan in (0, 1)):
            yield ct(make_slice, k, scan, TriggerTime=300 + 40 * scan + draw.randint(-15, 15), InstanceNumber=99 - k)

    assert scanned(make)[0] == [(10, FIRST), (10, SECOND)]


def test_times_beyond_midnight_count_on(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        for number, (k, scan) in enumerate((k, scan) for scan in (0, 1) for k in range(6)):
            hour = ("235959", "000001")[number >= 4]
            tags = {"AcquisitionTime": f"{hour}.{number:02d}", "AcquisitionDate": f"2020010{1 + (number >= 4)}"}
            yield ct(make_slice, k, scan, InstanceNumber=100 - number, StudyDate="20200101", **tags)

    assert scanned(make)[0] == [(6, FIRST), (6, SECOND)]


def test_a_second_scan_that_lacks_a_slice_takes_none_of_the_first(scanned: Callable[..., Any]) -> None:
    blocks = [(k, scan) for scan in (0, 1) for k in range(6) if (k, scan) != (3, 1)]
    volumes, notes, skipped = scanned(in_order(blocks, "InstanceNumber"))
    assert volumes == [(6, FIRST), (5, SECOND)]
    assert notes[1][0] == "slices missing: 1, gaps: 1"
    assert not skipped


def test_a_slice_that_may_be_of_either_scan_is_left_out(scanned: Callable[..., Any]) -> None:
    in_turn = [(k, scan) for k in range(6) for scan in (0, 1) if (k, scan) != (3, 1)]
    volumes, _, skipped = scanned(in_order(in_turn, "InstanceNumber"))
    assert (volumes, skipped) == ([(5, FIRST), (5, SECOND)], [UNCLEAR])


def test_acquisitions_that_overlap_at_their_ends_are_volumes(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        for number, heights in enumerate((range(12), range(10, 22), range(20, 32))):
            yield from (ct(make_slice, k, number % 2, AcquisitionNumber=number + 1) for k in heights)

    assert scanned(make)[0] == [(12, FIRST), (12, SECOND), (12, FIRST)]


def test_phases_are_told_apart_whatever_their_files_are_called(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path
) -> None:
    phases = two(8, NominalPercentageOfCardiacPhase=(30.0, 75.0))(make_slice)  # Weasis #701
    write_slices(phases, (f"IM{number:04d}" for number in range(16)))
    volumes, skipped = scan()
    assert found(volumes, tmp_path / "data") == [(8, FIRST), (8, SECOND)]
    assert not skipped


NAMED = ("phase", "delay", "temporal", "voltage", "kernel", "acquisition", "comment", "acquired")
COUNTED = ("blocks", "turns", "shuttle", "times", "scattered delays", "times of images")


def drawn(draw: random.Random) -> tuple[list[tuple[SourceFile, dict[str, Any]]], dict[str, int]]:
    """Facts of a series of several scans that differ in one way, some slices missing, and the scan of each file."""
    count, scans, step = draw.randint(7, 14), draw.choice((2, 2, 3, 5)), draw.choice((0.625, 1.0, 2.5, 5.0))
    kind = draw.choice((*NAMED, *COUNTED))
    offset = 0.37 * step * draw.choice((0, 0, 1)) * (kind in NAMED)
    most = 0 if kind == "turns" else 2  # of what is missing there, nothing tells the scan
    there = [sorted(draw.sample(range(count), count - draw.randint(0, most))) for _ in range(scans)]
    order = [(k, scan) for scan in range(scans) for k in there[scan][:: -1 if kind == "shuttle" and scan % 2 else 1]]
    order.sort(key=lambda slice_: slice_[0] if kind == "turns" else 0)
    headers, scan_of = [], {}
    for number, (k, scan) in enumerate(order):
        marks = {"number": draw.randint(1, 9999)}
        if kind in NAMED:
            marks[kind] = f"{scan}" if kind in ("kernel", "comment") else 10.0 * scan
        elif kind == "times":
            marks["acquired"] = 36_000 + 0.3 * number
        elif kind == "times of images":
            marks["content"] = 36_000.0 + 50 * scan + draw.random()
        elif kind == "scattered delays":
            marks["delay"] = 100.0 * scan + draw.randint(0, 40)
        else:
            marks["number"] = number
        name = f"{draw.getrandbits(60)}"
        scan_of[name] = scan
        z = step * k + offset * scan + draw.uniform(-0.003, 0.003)
        headers.append(header(name, z, marks=marks, thickness=step))
    draw.shuffle(headers)
    return headers, scan_of


@pytest.mark.parametrize("seed", range(5))
def test_no_slice_of_another_scan_is_ever_in_a_volume(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    slices, lost = 0, 0
    for _ in range(25):
        headers, scan_of = drawn(draw)
        outcomes = list(arrange_series(headers, SeriesParams(root=tmp_path)))
        volumes = [outcome for outcome in outcomes if isinstance(outcome, Volume)]
        for volume in volumes:
            assert len({scan_of[file.path] for file in volume.files}) == 1
        assert len({scan_of[volume.files[0].path] for volume in volumes}) == len(volumes) == len(set(scan_of.values()))
        slices += len(headers)
        lost += len(outcomes) - len(volumes)
    assert lost <= 0.02 * slices


# --- frames -------------------------------------------------------------------------------------------------------


def enhanced(
    make_slice: Slices, frames: list[tuple[int, int]], groups: Callable[[int, int], dict[str, Any]]
) -> Dataset:
    """An enhanced CT image of frames (slice, scan), with more functional ``groups`` for each."""
    images = [ct(make_slice, k, scan) for k, scan in frames]
    data = images[0]
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    data.NumberOfFrames, data.PixelData = len(frames), b"".join(image.PixelData for image in images)
    data.PerFrameFunctionalGroupsSequence = [
        groups_of(PlanePositionSequence={"ImagePositionPatient": image.ImagePositionPatient}, **groups(k, scan))
        for image, (k, scan) in zip(images, frames, strict=True)
    ]
    shared = {"PlaneOrientationSequence": {"ImageOrientationPatient": data.ImageOrientationPatient}}
    data.SharedFunctionalGroupsSequence = [groups_of(**shared)]
    del data.ImagePositionPatient, data.ImageOrientationPatient, data.ConvolutionKernel
    return data


def groups_of(**groups: dict[str, Any]) -> Dataset:
    whole = Dataset()
    for name, elements in groups.items():
        group = Dataset()
        for keyword, value in elements.items():
            setattr(group, keyword, value)
        setattr(whole, name, [group])
    return whole


@pytest.mark.parametrize(
    "groups",
    [
        pytest.param(
            lambda k, scan: {"CardiacSynchronizationSequence": {"NominalPercentageOfCardiacPhase": 30.0 + 40 * scan}},
            id="cardiac phase",  # dcm2niix #555
        ),
        pytest.param(
            lambda k, scan: {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 400.0 * scan}},
            id="trigger delay",
        ),
        pytest.param(
            lambda k, scan: {"FrameContentSequence": {"TemporalPositionIndex": scan + 1}}, id="temporal index"
        ),
        pytest.param(lambda k, scan: {"FrameContentSequence": {"StackID": str(scan + 1)}}, id="stack"),
        pytest.param(
            lambda k, scan: {"FrameContentSequence": {"DimensionIndexValues": [1, k + 1, scan + 1]}}, id="dimension"
        ),
        pytest.param(
            lambda k, scan: {"FrameContentSequence": {"FrameAcquisitionDateTime": f"20200101{10 + scan}00{k:02d}"}},
            id="time of each frame",
        ),
        pytest.param(
            lambda k, scan: {"TemporalPositionSequence": {"TemporalPositionTimeOffset": 2.0 * scan}}, id="time offset"
        ),
        pytest.param(
            lambda k, scan: {"CTReconstructionSequence": {"ConvolutionKernel": ("B30f", "B70f")[scan]}}, id="kernel"
        ),
        pytest.param(lambda k, scan: {"CTXRayDetailsSequence": {"KVP": (80, 140)[scan]}}, id="tube voltage"),
        pytest.param(
            lambda k, scan: {"CTImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "AB"[scan]]}},
            id="frame type",
        ),
        pytest.param(
            lambda k, scan: {"CTImageFrameTypeSequence": {"FrameType": ["DERIVED"]}} if scan else {},
            id="frame type of some",
        ),
        pytest.param(lambda k, scan: {"FrameContentSequence": {"FrameLabel": "ab"[scan]}}, id="any other element"),
        pytest.param(lambda k, scan: {}, id="order of the frames"),
    ],
)
def test_two_scans_in_one_enhanced_image_are_two_volumes(
    scanned: Callable[..., Any], groups: Callable[[int, int], dict[str, Any]]
) -> None:
    frames = [(k, scan) for k in range(6) for scan in (0, 1)]
    volumes, notes, skipped = scanned(lambda make_slice: iter([enhanced(make_slice, frames, groups)]))
    assert sorted(volumes) == [(6, FIRST), (6, SECOND)]
    assert notes[0][0].startswith(TOLD)
    assert not skipped


def test_one_kernel_of_an_enhanced_image_may_be_asked_for(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path
) -> None:
    frames = [(k, scan) for k in range(6) for scan in (0, 1)]
    kernels = [{"CTReconstructionSequence": {"ConvolutionKernel": kernel}} for kernel in ("B30f", "B70f")]
    write_slices([enhanced(make_slice, frames, lambda k, scan: kernels[scan])])
    volumes, _ = scan(kernel=["B7*"])
    assert found(volumes, tmp_path / "data") == [(6, SECOND)]
    assert scan(kernel=["B9*"]) == ([], {"0000.dcm": "kernel not requested"})


def test_two_enhanced_images_of_one_series_are_two_volumes(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        yield from (enhanced(make_slice, [(k, scan) for k in range(6)], lambda k, scan: {}) for scan in (0, 1))

    volumes, notes, _ = scanned(make)
    assert sorted(volumes) == [(6, FIRST), (6, SECOND)]
    assert notes[0] == (TOLD + "file",)


# --- not told apart -----------------------------------------------------------------------------------------------


def test_where_nothing_tells_scans_apart_they_are_left_out(scanned: Callable[..., Any]) -> None:
    volumes, _, skipped = scanned(two())
    assert (volumes, skipped) == ([], [UNCLEAR] * 12)


def test_another_slice_at_one_height_costs_that_height_and_a_copy_costs_nothing(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        yield from (ct(make_slice, k, InstanceNumber=1) for k in range(8))
        yield ct(make_slice, 3, InstanceNumber=1)
        yield ct(make_slice, 5, 1, InstanceNumber=1)

    volumes, notes, skipped = scanned(make)
    assert volumes == [(7, FIRST)]
    assert sorted(skipped) == [DUPLICATE, UNCLEAR, UNCLEAR]
    more = ("duplicates skipped: 1", "slices skipped, because several different ones have one height: 2")
    assert notes == [("slices missing: 1, gaps: 1", *more)]


def test_a_slice_that_was_taken_again_cuts_no_scan_in_two(scanned: Callable[..., Any]) -> None:
    again = [*((k, 0) for k in range(6)), (5, 1), *((k, 0) for k in range(6, 12))]
    volumes, _, skipped = scanned(in_order(again, "InstanceNumber", "AcquisitionTime", "ContentTime"))
    assert (volumes, skipped) == ([(11, FIRST)], [UNCLEAR] * 2)


def test_slices_without_heights_of_their_own_are_left_out(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        return (ct(make_slice, k, z=0.0, AcquisitionTime=f"1000{k:02d}") for k in range(6))

    volumes, _, skipped = scanned(make)
    assert (volumes, skipped) == ([], [UNCLEAR] * 6)


def test_copies_are_known_by_their_pixels_though_their_headers_differ(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        for copy, k in ((copy, k) for copy in (0, 1) for k in range(6)):
            data = ct(make_slice, k, InstanceNumber=6 * copy + k, ContentTime=f"10000{copy}")
            if copy:
                data.compress("1.2.840.10008.1.2.5")
            yield data

    volumes, notes, skipped = scanned(make)
    assert (volumes, skipped) == ([(6, FIRST)], [DUPLICATE] * 6)
    assert notes == [("duplicates skipped: 6",)]


class Crashing:
    """A slice that ends whoever decodes it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def test_a_copy_that_crashes_its_decoder_is_nobodys_copy_and_stops_nothing(tmp_path: Path) -> None:
    with _Decoder(tmp_path, Volume("one", "one", (), (), rows=4, columns=4)) as decoder:
        assert decoder.digest(Crashing()) is None  # type: ignore[arg-type]
        assert decoder.digest(Crashing()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", [0.0, 1.3])
def test_two_folders_of_equal_uids_are_two_volumes(scanned: Callable[..., Any], offset: float) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        for scan, k in ((scan, k) for scan in (0, 1) for k in range(6)):
            yield ct(make_slice, k, scan, z=2.5 * k + offset * scan)

    volumes, notes, _ = scanned(make, lambda number: "ab"[number // 6] + "/")
    assert volumes == [(6, FIRST), (6, SECOND)]
    assert notes == [(TOLD + "folder", FOLDERS)] * 2


def test_even_slices_from_two_folders_are_one_volume_with_a_warning(
    scanned: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:
        return (ct(make_slice, k) for k in range(6))

    volumes, notes, _ = scanned(make, lambda number: "ab"[number % 2] + "/")
    assert volumes == [(6, FIRST)]
    assert notes == [(FOLDERS,)]
    assert "series in several folders with overlapping heights: see the notes on 1 volumes" in caplog.text


# --- one scan -----------------------------------------------------------------------------------------------------


def step_and_shoot(make_slice: Slices) -> Iterator[Dataset]:
    for k in range(12):
        times = dict.fromkeys(("AcquisitionTime", "ContentTime"), f"1000{2 * k:02d}")
        yield ct(make_slice, k, AcquisitionNumber=k + 1, TriggerTime=300 + k, **times)


def head(make_slice: Slices) -> Iterator[Dataset]:
    marked = ["ORIGINAL", "PRIMARY", "AXIAL", "ADD"]
    yield from (ct(make_slice, k, SliceThickness=2.5, ImageType=marked, AcquisitionNumber=1) for k in range(8))
    yield from (ct(make_slice, k, z=5.0 * k - 20, SliceThickness=5, AcquisitionNumber=2) for k in range(8, 14))


def head_with_thick_middle(make_slice: Slices) -> Iterator[Dataset]:
    for k in range(15):
        z = 2.0 * k if k < 5 else 4.0 * k - 10 if k < 10 else 2.0 * k + 10
        yield ct(make_slice, k, z=z, SliceThickness=4 if 5 <= k < 10 else 2)


def head_that_meets_in_one_height(make_slice: Slices) -> Iterator[Dataset]:
    yield from (ct(make_slice, k, SliceThickness=2.5) for k in range(8))
    yield ct(make_slice, 7, SliceThickness=5, AcquisitionNumber=2)  # a copy
    yield from (ct(make_slice, k, z=5.0 * k - 20, SliceThickness=5) for k in range(8, 14))


def overlapped(make_slice: Slices) -> Iterator[Dataset]:
    return (ct(make_slice, k, z=round(0.1 * k, 1), SliceThickness=1) for k in range(12))


def odd_slices(make_slice: Slices) -> Iterator[Dataset]:
    for k in range(12):
        odd = {"SliceThickness": 5} if k in (3, 7, 9) else {"ConvolutionKernel": ""} if k in (2, 6, 10) else {}
        yield ct(make_slice, k, **odd)


def frame_of_reference_per_file(make_slice: Slices) -> Iterator[Dataset]:
    return (ct(make_slice, k, FrameOfReferenceUID=f"1.2.3.{k}") for k in range(12))


def frame_of_reference_missing(make_slice: Slices) -> Iterator[Dataset]:
    return (ct(make_slice, k, FrameOfReferenceUID="1.2.3" if k % 3 else "") for k in range(12))


@pytest.mark.parametrize(
    "make",
    [
        step_and_shoot, head, head_that_meets_in_one_height, head_with_thick_middle, overlapped, odd_slices,
        frame_of_reference_per_file, frame_of_reference_missing,
    ],
)  # fmt: skip
def test_one_scan_stays_one_volume(scanned: Callable[..., Any], make: Make, make_slice: Slices) -> None:
    heights = {float(data.ImagePositionPatient[2]) for data in make(make_slice)}
    assert scanned(make)[0] == [(len(heights), FIRST)]


# --- studies and patients -----------------------------------------------------------------------------------------


def test_two_studies_under_one_series_uid_are_two_volumes(scanned: Callable[..., Any]) -> None:
    def make(make_slice: Slices) -> Iterator[Dataset]:  # matRad #273, dcm2niix #211
        for scan, k in ((scan, k) for scan in (0, 1) for k in range(8)):
            uids = {"StudyInstanceUID": f"1.2.3.{scan}", "FrameOfReferenceUID": f"1.9.{scan}"}
            yield ct(make_slice, k, scan, z=2.5 * k + 1.25 * scan, **uids)

    assert sorted(scanned(make)[0]) == [(8, FIRST), (8, SECOND)]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_study_and_frame_of_reference_each_tell_scans_apart(scanned: Callable[..., Any], keyword: str) -> None:
    assert sorted(scanned(two(**{keyword: ("1.2.3.4", "1.2.3.5")}))[0]) == [(6, FIRST), (6, SECOND)]


def test_patient_ids_that_differ_in_capitals_or_blanks_are_one_patient(
    make_slice: Slices, write_slices: Write, scan: Scan
) -> None:
    for number, patient in enumerate(("P 1", "p1", "P2")):
        slices = [make_slice(z, SeriesInstanceUID=f"1.2.{number}", PatientID=patient) for z in (0.0, 1.0, 2.0)]
        write_slices(slices, [f"{number}/{z}" for z in range(3)])
    volumes, _ = scan()
    assert [volume.patient for volume in volumes] == ["P 1", "P 1", "P2"]
    note = "the patient id differs in capitals or blanks from that of other files"
    assert [volume.notes for volume in volumes] == [(), (note,), ()]


# --- the same scan ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"ConvolutionKernel": "B70f"}, True),
        ({"SliceThickness": "5"}, True),
        ({"AcquisitionTime": "110000"}, False),
        ({"AcquisitionNumber": "2"}, False),
        ({"NominalPercentageOfCardiacPhase": 75.0}, False),
        ({"StudyInstanceUID": "1.2.3.9"}, False),
        ({"FrameOfReferenceUID": "1.2.3.9"}, False),
        ({"PatientID": "another"}, False),
    ],
    ids=str,
)
def test_a_second_reconstruction_names_the_volume_of_the_same_scan(
    make_slice: Slices, write_slices: Write, scan: Scan, changes: dict[str, Any], same: bool
) -> None:
    plain = {"AcquisitionTime": "100000", "AcquisitionNumber": "1", "NominalPercentageOfCardiacPhase": 30.0}
    first = [make_slice(z, SeriesInstanceUID="1.1", **plain) for z in (0.0, 1.0, 2.0)]
    second = [make_slice(z, SeriesInstanceUID="1.2", **plain | changes) for z in (0.0, 1.0, 2.0)]
    write_slices([*first, *second])
    assert [volume.same_scan for volume in scan()[0]] == ["", "1.1" if same else ""]


def test_kernels_in_one_series_show_one_scan_and_its_phases_do_not(
    make_slice: Slices, write_slices: Write, scan: Scan
) -> None:
    write_slices(two(ConvolutionKernel=("B30f", "B70f"))(make_slice), (f"kernels/{number}" for number in range(12)))
    phases = two(TriggerTime=(0, 400), SeriesInstanceUID=("9", "9"), StudyInstanceUID=("8", "8"))(make_slice)
    write_slices(phases, (f"phases/{number}" for number in range(12)))
    assert [volume.same_scan for volume in scan()[0]] == ["", "1.2.3.1.1", "", ""]


def test_a_volume_tells_its_kernel_and_thickness_but_no_name(
    make_slice: Slices, write_slices: Write, scan: Scan
) -> None:
    for number, kernel in enumerate(("Br38f", "BONEPLUS", "FC08", "DOE^JANE", "")):
        slices = [make_slice(z, SeriesInstanceUID=f"1.{number}", ConvolutionKernel=kernel) for z in (0.0, 1.0, 2.0)]
        write_slices(slices, [f"{number}/{z}" for z in range(3)])
    volumes, _ = scan()
    assert [volume.kernel for volume in volumes] == ["Br38f", "BONEPLUS", "FC08", "other", ""]
    assert {volume.thickness for volume in volumes} == {2.5}
