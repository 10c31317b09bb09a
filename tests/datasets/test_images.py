from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from ctkit.contracts import Pixels, Skipped, Volume
from ctkit_datasets.images import Images, ImagesParams, _natural
from ctkit_datasets.phantom import Phantom, PhantomParams


def grey(number: int, rows: int = 6, columns: int = 8, dtype: Any = np.uint8) -> np.ndarray:
    """An image that tells its number: not constant, never twice the same."""
    return (np.arange(rows * columns).reshape(rows, columns) + number).astype(dtype)


def save(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(path)
    return path


def scan(root: Path, **params: Any) -> tuple[list[Volume], dict[str, str]]:
    dataset = Images(ImagesParams(root=root, **params))
    headers, skipped = [], {}
    for file in dataset.files():
        found = dataset.inspect(file)
        if isinstance(found, Skipped):
            skipped[found.source] = found.reason
        else:
            headers.append((file, found))
    volumes = []
    for item in dataset.arrange(headers):
        if isinstance(item, Volume):
            volumes.append(item)
        else:
            skipped[item.source] = item.reason
    return volumes, skipped


def only(root: Path, **params: Any) -> tuple[Volume, Pixels]:
    (volume,), _ = scan(root, **params)
    return volume, Images(ImagesParams(root=root, **params)).read(volume)


# --- names --------------------------------------------------------------------------------------------------------


def test_the_published_layout_is_grouped_by_patient_and_volume_in_the_order_of_numbers(tmp_path: Path) -> None:
    for index in (1, 2, 9, 10, 11, 100):
        save(tmp_path / f"LIDC-IDRI-0001_{index}.png", grey(index))
    for volume in (2, 10):
        for index in (0, 3, 20):
            save(tmp_path / f"PETCT_0f1a_{volume}_{index}.png", grey(index))
    volumes, skipped = scan(tmp_path)
    assert skipped == {}
    assert [volume.patient for volume in volumes] == ["LIDC-IDRI-0001", "PETCT_0f1a", "PETCT_0f1a"]
    assert [[file.path for file in volume.files] for volume in volumes] == [
        [f"LIDC-IDRI-0001_{index}.png" for index in (1, 2, 9, 10, 11, 100)],
        [f"PETCT_0f1a_2_{index}.png" for index in (0, 3, 20)],
        [f"PETCT_0f1a_10_{index}.png" for index in (0, 3, 20)],
    ]
    pixels = Images(ImagesParams(root=tmp_path)).read(volumes[0])
    np.testing.assert_array_equal(pixels.values, [grey(index) for index in (1, 2, 9, 10, 11, 100)])
    assert (pixels.unit, pixels.values.dtype) == ("arbitrary", np.uint8)


def test_a_pattern_makes_each_folder_a_volume(tmp_path: Path) -> None:
    for folder in ("b/CT 1", "b/CT 2", "a/CT 1"):
        for name in ("slice 2", "slice 10", "slice 1"):
            save(tmp_path / folder / f"{name}.tif", grey(len(name)))
    volumes, _ = scan(tmp_path, pattern=r"^(?P<patient>[^/]+)/.*/(?P<index>[^/]+)$")
    assert [(volume.patient, volume.files[0].path) for volume in volumes] == [
        ("a", "a/CT 1/slice 1.tif"), ("b", "b/CT 1/slice 1.tif"), ("b", "b/CT 2/slice 1.tif"),
    ]  # fmt: skip
    assert [file.path[-6:] for file in volumes[0].files] == [" 1.tif", " 2.tif", "10.tif"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "must be a regular expression"), ("a", "but has none"), ("(?P<name>a)", "but has \\['name'\\]")],
)
def test_a_pattern_that_cannot_group_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImagesParams(root=tmp_path, pattern=pattern)


@given(st.lists(st.integers(0, 10**6), unique=True), st.randoms(use_true_random=False))
def test_natural_order_is_that_of_the_numbers(numbers: list[int], shuffler: random.Random) -> None:
    names = [f"a{number}_b" for number in sorted(numbers)]
    shuffled = names.copy()
    shuffler.shuffle(shuffled)
    assert sorted(shuffled, key=_natural) == names


# --- pixels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(suffix, mode) for suffix in (".png", ".tiff") for mode in ("L", "RGB", "RGBA", "LA", "P", "1")]
    + [(".jpg", "L"), (".jpg", "RGB")],
)
def test_any_mode_becomes_grey(tmp_path: Path, suffix: str, mode: str) -> None:
    expected = []
    for number in range(3):
        path = save(tmp_path / f"a_{number}{suffix}", grey(50 * number), mode)
        expected.append(np.asarray(Image.open(path).convert("L")))
    np.testing.assert_array_equal(only(tmp_path)[1].values, expected)


def test_colour_becomes_its_luminance(tmp_path: Path) -> None:
    colours = np.zeros((4, 3, 3), np.uint8)
    colours[0] = np.eye(3) * 255
    for number in range(3):
        save(tmp_path / f"a_{number}.png", colours)
    np.testing.assert_array_equal(only(tmp_path)[1].values[0, 0], [76, 150, 29])  # ITU-R 601-2


@pytest.mark.parametrize(
    ("dtype", "suffix"), [("<u2", ".png"), ("<u2", ".tif"), (">u2", ".tif"), ("<i4", ".tif"), ("<f4", ".tif")]
)
def test_deep_images_keep_their_values(tmp_path: Path, dtype: str, suffix: str) -> None:
    expected = [grey(1000 * number, dtype=dtype) * 3 for number in range(3)]
    for number, values in enumerate(expected):
        save(tmp_path / f"a_{number}{suffix}", values.astype(dtype))
    _, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.values, expected)
    assert pixels.values.dtype == np.dtype(dtype).newbyteorder("=")


def test_the_frames_of_a_stack_are_slices(tmp_path: Path) -> None:
    frames = [Image.fromarray(grey(number)) for number in range(5)]
    frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
    volume, pixels = only(tmp_path)
    assert volume.slices == tuple((0, frame) for frame in range(5))
    np.testing.assert_array_equal(pixels.values, [grey(number) for number in range(5)])


def test_only_the_wanted_slices_are_read(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"a_{number}.png", grey(number))
    (volume,), _ = scan(tmp_path)
    for number in (0, 2, 3, 5):
        (tmp_path / f"a_{number}.png").unlink()
    pixels = Images(ImagesParams(root=tmp_path)).read(volume, np.array([1, 4]))
    np.testing.assert_array_equal(pixels.index, [1, 4])
    np.testing.assert_array_equal(pixels.values, [grey(1), grey(4)])
    assert pixels.skipped == ()


def test_an_exported_phantom_comes_back(tmp_path: Path) -> None:
    phantom = Phantom(PhantomParams(patients=1, slices=12, matrix=32))
    values = (phantom.read(phantom.volume(0)).values.astype(int) + 1024).astype(np.uint16)
    for number, slice_ in enumerate(values):
        save(tmp_path / f"phantom_{number}.png", slice_)
    np.testing.assert_array_equal(only(tmp_path)[1].values, values)


# --- what is left out ---------------------------------------------------------------------------------------------


def test_images_that_do_not_fit_their_volume_are_left_out(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"a_{number}.png", grey(number))
    save(tmp_path / "a_5.png", grey(5, rows=7))
    save(tmp_path / "a_6.png", grey(6, dtype=np.uint16))
    save(tmp_path / "a_2.jpg", grey(2))
    save(tmp_path / "b_1.png", grey(1))
    (tmp_path / "notes.txt").write_text("no image")
    (volume,), skipped = scan(tmp_path)
    assert [file.path for file in volume.files] == ["a_0.png", "a_1.png", "a_2.jpg", "a_3.png"]
    assert skipped == {
        "a_5.png": "7 x 8 pixels of 8 bits, while most of its volume is 6 x 8 pixels of 8 bits",
        "a_6.png": "6 x 8 pixels of 16 bits, while most of its volume is 6 x 8 pixels of 8 bits",
        "a_2.png": "another file of its volume has the same index",
        "b_1.png": "a volume of fewer than 3 slices (parameter min_slices)",
        "notes.txt": "not an image by its name, which should end in .png, .jpg, .jpeg, .tif, .tiff, .bmp, .webp",
    }


def test_a_path_without_a_match_and_an_excluded_one_are_left_out(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"ct_{number}.png", grey(number))
        save(tmp_path / f"pet_{number}.png", grey(number))
    _, skipped = scan(tmp_path, pattern=r"(?P<patient>ct)_(?P<index>\d+)", exclude=["pet_0*"])
    assert skipped == {
        "pet_0.png": "skipped by the parameter exclude",
        "pet_1.png": "its path does not match the parameter pattern",
        "pet_2.png": "its path does not match the parameter pattern",
    }


def test_only_the_first_patients_and_volumes_are_used_where_asked_for(tmp_path: Path) -> None:
    for patient in "ab":
        for volume in (1, 2):
            for index in range(3):
                save(tmp_path / f"{patient}_{volume}_{index}.png", grey(index))
    assert [volume.patient for volume in scan(tmp_path, max_patients=1)[0]] == ["a", "a"]
    volumes, skipped = scan(tmp_path, max_volumes=3)
    assert len(volumes) == 3
    assert skipped["b_2_0.png"] == "beyond the first 3 volumes"


def test_broken_files_are_skipped_with_a_reason_and_never_fatal(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"a_{number}.png", np.random.default_rng(number).integers(0, 255, (40, 40), np.uint8))
    truncated = (tmp_path / "a_1.png").read_bytes()
    (tmp_path / "a_1.png").write_bytes(truncated[: len(truncated) // 2])
    (tmp_path / "a_2.png").write_bytes(b"")
    (tmp_path / "a_3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    save(tmp_path / "a_4.png", np.full((40, 40), 7, np.uint8))
    (volume,), skipped = scan(tmp_path)
    assert skipped.keys() == {"a_2.png", "a_3.png"}
    pixels = Images(ImagesParams(root=tmp_path)).read(volume)
    assert [volume.source(number) for number in pixels.index] == ["a_0.png", "a_5.png"]
    reasons = {volume.source(number): reason for number, reason in pixels.skipped}
    assert "damaged" in reasons["a_1.png"]
    assert reasons["a_4.png"] == "constant: every pixel has the same value"


def png_claiming(side: int) -> bytes:
    """A PNG of a few bytes whose header claims ``side`` x ``side`` pixels."""
    file = io.BytesIO()
    Image.fromarray(grey(0)).save(file, "png")
    header = b"IHDR" + struct.pack(">II", side, side) + file.getvalue()[24:29]
    return file.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + file.getvalue()[33:]


@pytest.mark.parametrize("side", [12_000, 65_535])
def test_a_header_that_claims_too_many_pixels_is_refused(tmp_path: Path, side: int) -> None:
    (tmp_path / "a_0.png").write_bytes(png_claiming(side))
    volumes, skipped = scan(tmp_path)
    assert volumes == []
    assert skipped == {"a_0.png": "its header claims more pixels than any CT slice has"}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_no_mutated_image_is_fatal(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(3)
    content = save(tmp_path / f"a_0{suffix}", grey(0, 30, 30)).read_bytes()
    for number in range(60):
        data = bytearray(content)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(0, 256)
        (tmp_path / f"a_{number}{suffix}").write_bytes(data[: rng.integers(len(data) // 2, len(data) + 1)])
    volumes, skipped = scan(tmp_path, min_slices=1)
    dataset = Images(ImagesParams(root=tmp_path, min_slices=1))
    accounted = len(skipped)
    for volume in volumes:
        pixels = dataset.read(volume)
        accounted += len({volume.slices[number][0] for number in [*pixels.index, *(n for n, _ in pixels.skipped)]})
    assert accounted == 60
