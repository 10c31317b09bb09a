"""Small files that claim, or grow to, more than a worker may take: each costs itself, and no memory."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from ctkit.errors import DataError
from ctkit_datasets import filters
from ctkit_datasets.dicom import Dicom
from ctkit_datasets.filters import SeriesParams
from ctkit_datasets.metaimage import MetaImage
from ctkit_datasets.nifti import Nifti, NiftiParams

from .conftest import scan_folder

Slices = Callable[..., Dataset]
Write = Callable[..., list[Path]]
Scan = Callable[..., tuple[list[object], dict[str, str]]]
MIB = 1 << 20


@contextmanager
def at_most(peak: int) -> Iterator[None]:
    """The block takes at most so many bytes."""
    tracemalloc.start()
    try:
        yield
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken <= peak


def deflated(path: Path, slice_: Dataset, rest: int) -> None:
    """Write a slice deflated, with ``rest`` zeros behind its pixels."""
    slice_.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    slice_.save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    start = 132 + 12 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    whole = zlib.decompress(data[start:], wbits=-zlib.MAX_WBITS)
    path.write_bytes(data[:start] + packer.compress(whole) + packer.compress(bytes(rest)) + packer.flush())


def test_of_a_deflated_file_nothing_is_inflated_beyond_its_pixels(make_slice: Slices, tmp_path: Path) -> None:
    slices = [make_slice(float(z)) for z in range(3)]
    for number, slice_ in enumerate(slices):
        deflated(tmp_path / f"{number}.dcm", slice_, 100 * MIB if number == 1 else 0)
    dataset = Dicom(SeriesParams(root=tmp_path))
    with at_most(24 * MIB):
        (volume,), skipped = scan_folder(dataset)
        pixels = dataset.read(volume)
        dataset.facts(volume)
    assert skipped == {}
    expected = np.stack([np.frombuffer(slice_.PixelData, np.int16).reshape(16, 16) for slice_ in slices])
    np.testing.assert_array_equal(pixels.values, expected - 1024)


def test_a_deflated_header_that_never_ends_takes_no_memory(tmp_path: Path, make_slice: Slices) -> None:
    slice_ = make_slice()
    slice_.ImageComments = "x" * 100  # before the pixels
    slice_.add_new(0x00204001, "OB", bytes(200 * MIB))
    slice_.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    slice_.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    del slice_
    with at_most(96 * MIB):
        _, skipped = scan_folder(Dicom(SeriesParams(root=tmp_path)))
    assert list(skipped.values()) == ["damaged: the data set inflates to more than 100 times its size"]


@pytest.mark.parametrize("frames", [1, 1000])
def test_claimed_pixels_that_a_deflated_file_cannot_hold_are_refused(
    make_slice: Slices, tmp_path: Path, frames: int
) -> None:
    slice_ = make_slice(NumberOfFrames=frames, BitsAllocated=16, BitsStored=16)
    slice_.Rows = slice_.Columns = 4096
    deflated(tmp_path / "a.dcm", slice_, 40 * MIB)
    with at_most(8 * MIB):
        _, skipped = scan_folder(Dicom(SeriesParams(root=tmp_path)))
    reason = "truncated: " if frames == 1 else "a volume of more than 4,294,967,296 bytes, which ctkit does not read"
    assert skipped["a.dcm"].startswith(reason)


def test_frames_that_together_are_too_large_cost_their_file(
    make_slice: Slices, write_slices: Write, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = make_slice(0.0, np.tile(np.arange(64, dtype=np.int16), (64 * 40, 1)), SeriesInstanceUID="1.9")
    frames.Rows, frames.NumberOfFrames = 64, 40
    frames.compress(JPEG2000Lossless)
    write_slices([frames, *(make_slice(float(z)) for z in range(3))], ["bomb.dcm", "0", "1", "2"])
    monkeypatch.setattr(filters, "LARGEST", 2 * 64 * 64 * 39)
    volumes, skipped = scan()
    assert [len(volume) for volume in volumes] == [3]  # type: ignore[arg-type]
    assert list(skipped) == ["bomb.dcm"]
    assert skipped["bomb.dcm"].startswith("a volume of more than")


def test_a_series_that_is_too_large_as_a_whole_is_left_out(
    make_slice: Slices, write_slices: Write, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = [make_slice(float(z), SeriesInstanceUID="1.9") for z in range(5)]
    write_slices([*slices, *(make_slice(float(z)) for z in range(4))])
    monkeypatch.setattr(filters, "LARGEST", 2 * 16 * 16 * 4)
    volumes, skipped = scan()
    assert [len(volume) for volume in volumes] == [4]  # type: ignore[arg-type]
    assert set(skipped) == {f"{number:04d}.dcm" for number in range(5)}


def test_compressed_bytes_beyond_all_pixels_are_not_decoded(make_slice: Slices, tmp_path: Path, scan: Scan) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import RLELossless

    (tmp_path / "data").mkdir()
    for z in range(3):
        slice_ = make_slice(float(z))
        slice_.file_meta.TransferSyntaxUID = RLELossless
        runs = b"\x81\0" * (MIB if z == 1 else 2)  # each two bytes are 128 pixels
        slice_.PixelData = encapsulate([(2).to_bytes(4, "little") + (64).to_bytes(4, "little")
            + (64 + len(runs)).to_bytes(4, "little") + bytes(52) + runs + b"\x00\x01" + b"\x81\0" * 2])  # fmt: skip
        slice_["PixelData"].VR = "OB"
        slice_.save_as(tmp_path / "data" / f"{z}.dcm", enforce_file_format=True)
    (volume,), _ = scan()
    with at_most(32 * MIB), pytest.raises(DataError, match="more bytes compressed than there can be"):
        Dicom(SeriesParams(root=tmp_path / "data")).read(volume, np.array([1]))  # type: ignore[arg-type]


def nifti_header(side: int) -> bytes:
    """Of a cube of 16 bits a voxel."""
    header = np.zeros(88, "<f4")  # 352 bytes
    header[0:1].view("<i4")[:] = 348
    header.view("<i2")[20:24] = 3, side, side, side
    header.view("<i2")[35:37] = 4, 16
    header[20:23], header[27] = 1, 352
    header.view("u1")[344:347] = list(b"n+1")
    return header.tobytes()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_compressed_voxels_that_are_too_many_cost_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    for name, side in (("small", 20), ("bomb", 60)):
        path, air = tmp_path / f"{name}{suffix}", np.full(side**3, -1000, "<i2").tobytes()
        if suffix == ".nii.gz":
            path.write_bytes(gzip.compress(nifti_header(side) + air))
        elif suffix == ".nrrd":
            text = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {side} {side} {side}\nencoding: gzip\n\n"
            path.write_bytes(text.encode() + gzip.compress(air))
        else:
            text = f"ObjectType = Image\nNDims = 3\nDimSize = {side} {side} {side}\nElementType = MET_SHORT\n"
            text += "CompressedData = True\nElementDataFile = LOCAL\n"
            path.write_bytes(text.encode() + zlib.compress(air))
    monkeypatch.setattr(filters, "LARGEST", 60**3)
    dataset = (Nifti if suffix == ".nii.gz" else MetaImage)(NiftiParams(root=tmp_path))
    volumes, skipped = scan_folder(dataset)
    assert [volume.key for volume in volumes] == [f"small{suffix}"]
    assert skipped[f"bomb{suffix}"] == "a volume of more than 216,000 bytes, which ctkit does not read"


def test_one_slice_of_more_pixels_than_any_ct_is_refused(tmp_path: Path) -> None:
    text = "ObjectType = Image\nNDims = 3\nDimSize = 5000 5000 1\nElementType = MET_UCHAR\n"
    text += "CompressedData = True\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(text.encode() + zlib.compress(bytes(25_000_000)))
    _, skipped = scan_folder(MetaImage(NiftiParams(root=tmp_path)))
    assert skipped == {"a.mha": "its header claims slices of 5,000 x 5,000 pixels, more than any CT has"}
