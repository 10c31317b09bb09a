from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from ctkit.errors import DataError
from ctkit_formats.pictures import Look, decoded, depths, few_levels, look_at, opened, scales, shape_of


def noise(*shape: int, bits: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, shape).astype(np.uint16)


def png(values: np.ndarray, kind: int, *extra: bytes) -> bytes:
    """A 16-bit PNG of values (height, width, channels), its lines filtered by each of the five ways in turn."""
    lines, before = b"", np.zeros(values[0].nbytes, int)
    step = 2 * values.shape[2]
    for number, row in enumerate(values.astype(">u2")):
        now = np.frombuffer(row.tobytes(), np.uint8).astype(int)
        left, corner = (np.concatenate([np.zeros(step, int), line[:-step]]) for line in (now, before))
        near = [abs(before - corner), abs(left - corner), abs(left + before - 2 * corner)]
        paeth = np.select([(near[0] <= near[1]) & (near[0] <= near[2]), near[1] <= near[2]], [left, before], corner)
        filtered = now - [0 * now, left, before, (left + before) // 2, paeth][number % 5]
        lines += bytes([number % 5]) + filtered.astype(np.uint8).tobytes()
        before = now

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))

    header = struct.pack(">LLBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_png_of_16_bits_keeps_all_of_them(tmp_path: Path, kind: int, channels: int) -> None:
    values = noise(11, 7, channels, bits=16)
    (tmp_path / "a.png").write_bytes(png(values, kind))
    expected = values[..., 0] if channels < 3 else values[..., :3]
    np.testing.assert_array_equal(decoded(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_tiff_of_16_bits_is_read_as_tifffile_reads_it(
    tmp_path: Path, order: Any, options: dict[str, Any], channels: int
) -> None:
    values = noise(40, 50, channels, bits=16)
    look = {"photometric": "rgb" if channels > 1 else "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", values.squeeze(), byteorder=order, rowsperstrip=9, **look, **options)
    read = decoded(tmp_path / "a.tif")
    expected = tifffile.imread(tmp_path / "a.tif")
    np.testing.assert_array_equal(read, expected[..., :3] if channels > 1 else expected)
    assert read.dtype == np.uint16
    with opened(tmp_path / "a.tif") as image:
        assert shape_of(image) == (40, 50, "<u2")


def test_colour_of_16_bits_in_planes_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(3, 40, 50), photometric="rgb", planarconfig="separate")
    with pytest.raises(DataError, match="interleaved channels"):
        decoded(tmp_path / "a.tif")


def test_deep_colour_becomes_grey_by_the_weights_of_8_bits(tmp_path: Path) -> None:
    values = noise(6, 9, 3, bits=16)
    (tmp_path / "a.png").write_bytes(png(values, 2))
    grey = decoded(tmp_path / "a.png", grey=True)
    np.testing.assert_allclose(grey, values @ [0.299, 0.587, 0.114], atol=1)
    (tmp_path / "b.png").write_bytes(png(np.repeat(values[..., :1], 3, axis=2), 2))
    np.testing.assert_array_equal(decoded(tmp_path / "b.png", grey=True), values[..., 0])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_orientation_says(tmp_path: Path, name: str, orientation: int) -> None:
    values = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values).save(tmp_path / name, exif=exif, quality=100)
    turned = {
        1: values, 2: values[:, ::-1], 3: values[::-1, ::-1], 4: values[::-1], 5: values.T, 6: np.rot90(values, -1),
        7: values[::-1, ::-1].T, 8: np.rot90(values),
    }[orientation]  # fmt: skip
    read = decoded(tmp_path / name)
    np.testing.assert_allclose(read.astype(int), turned, atol=2)
    with opened(tmp_path / name) as image:
        assert shape_of(image)[:2] == read.shape


def test_a_deep_picture_is_turned_too(tmp_path: Path) -> None:
    values = noise(5, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">L", len(data)) + b"eXIf" + data + struct.pack(">L", zlib.crc32(b"eXIf" + data))
    (tmp_path / "a.png").write_bytes(png(values, 2, chunk))
    np.testing.assert_array_equal(decoded(tmp_path / "a.png"), np.rot90(values, -1))


def test_postscript_under_another_name_starts_no_program(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="not an image"):
        decoded(tmp_path / "a.png")


@pytest.mark.parametrize("side", [5_793, 13_000, 60_000])
def test_a_picture_that_claims_too_many_pixels_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "png")
    data = file.getvalue()
    header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
    (tmp_path / "a.png").write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(DataError, match="more pixels than any CT slice has"):
        decoded(tmp_path / "a.png")


def looks(folder: Path, *pictures: np.ndarray) -> list[Look]:
    for number, values in enumerate(pictures):
        Image.fromarray(values).save(folder / f"{number}.tif")
    return [look_at(folder / f"{number}.tif") for number in range(len(pictures))]


@pytest.mark.parametrize(
    ("high", "bits"), [(200, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16384, 16), (65535, 16)]
)
def test_one_depth_is_that_of_the_brightest_picture(tmp_path: Path, high: int, bits: int) -> None:
    bright, dark = (np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8) for top in (high, high // 3))
    (scale,) = scales(looks(tmp_path, dark, bright)).values()
    for values in (bright, dark):
        np.testing.assert_array_equal(scale.shown(values), values >> (bits - 8))


def test_floats_and_negative_values_have_a_scale_too(tmp_path: Path) -> None:
    unit = (np.arange(256, dtype=np.float32) / 255).reshape(16, 16)
    assert scales(looks(tmp_path, unit))["<f4"].shown(unit).ravel().tolist() == list(range(256))
    (scale,) = scales(looks(tmp_path, unit * 4095)).values()
    np.testing.assert_array_equal(scale.shown(unit * 4095), np.floor(unit * 4095 / 16))
    hu = np.linspace(-1000, 3000, 64).astype(np.int32).reshape(8, 8)
    assert scales(found := looks(tmp_path, hu))["<i4"].shown(hu)[[0, -1], [0, -1]].tolist() == [0, 255]
    assert depths(found) == "pictures: 1 of 32 bits, shown from -1000 to 3000"
    with pytest.raises(DataError, match="NaN"):
        looks(tmp_path, np.full((4, 4), np.nan, np.float32))


def test_pictures_that_use_few_levels_are_told(tmp_path: Path) -> None:
    shifted = (noise(16, 16) >> 8).astype(np.uint8)
    assert "half of the 2 images are darker than 16 of 256" in few_levels(looks(tmp_path, shifted, shifted))
    spot = noise(16, 16, bits=9)
    spot[0, 0] = 65535
    assert few_levels(looks(tmp_path, spot))
    assert not few_levels(looks(tmp_path, noise(16, 16), noise(16, 16, bits=8)))


@pytest.mark.parametrize(("kind", "meaning"), [("i1", "minisblack"), ("u2", "miniswhite")])
def test_forms_of_tiff_whose_values_pillow_gets_wrong_are_refused(tmp_path: Path, kind: str, meaning: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.arange(64, dtype=kind).reshape(8, 8), photometric=meaning)
    with pytest.raises(DataError, match="signed values of 8 bits"):
        decoded(tmp_path / "a.tif")
