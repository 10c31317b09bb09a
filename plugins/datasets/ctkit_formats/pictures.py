"""Pictures as PNG, JPEG, TIFF, BMP or WebP, decoded by what they hold: all bits of deep ones are kept.

A picture of more than ``MOST_PIXELS`` is refused by its header. It is turned as its EXIF orientation says, an alpha
channel is dropped, and a palette becomes its colours.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

from ctkit.errors import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")  #: what Pillow may try: its other formats may start programs
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MOST_PIXELS = 1 << 25  #: of a picture, about 5,800 x 5,800
AT_ONCE = 4  #: pictures to decode at a time: the largest take 250 MB each
FEW_LEVELS = 16  #: of 256

_DEEP = {"I": "<i4", "F": "<f4"}  # Pillow's modes beyond 8 bits, besides those of I;16
_COLOUR = "<u2"  # of colour with 16 bits


# --- decoding -----------------------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path, frame: int = 0) -> Iterator[ImageFile]:
    """Open a frame of a picture by its content, not its suffix. Whatever goes wrong becomes a ``DataError``."""
    try:
        # As a file, not by its path: what Pillow maps into memory it does not turn (python-pillow 13, TIFF).
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            if frame:
                image.seek(frame)
            yield _bounded(image)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(_TOO_LARGE) from error
    except OSError as error:
        if error.errno is None:  # Pillow's own, for a damaged file
            raise DataError(f"damaged or not an image ({type(error).__name__})") from error
        raise DataError(f"cannot be opened: {error.strerror}", retry=True) from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DataError(f"damaged or not an image ({type(error).__name__})") from error


def shape_of(image: ImageFile) -> tuple[int, int, str]:
    """Rows, columns and type of the values of an open picture, by its header."""
    rows, columns = image.height, image.width
    if _orientation(image) in (5, 6, 7, 8):
        rows, columns = columns, rows
    return rows, columns, _kind(image)


def decoded(path: Path, frame: int = 0, *, grey: bool = False) -> NDArray[Any]:
    """Decode a frame: (height, width), or (height, width, 3) where it has colour and ``grey`` does not refuse it.

    8 bits are uint8, others the least of uint16, int32 and float32 that holds them. Colour becomes grey by ITU-R 601-2.
    Raises ``DataError`` where the file is damaged, too large, or of a form that cannot be read without loss.
    """
    with opened(path, frame) as image:
        kind, raw = _kind(image), _deep_colour(image)
        if not raw:
            upright = _upright(image)
            return _eight_bits(upright, grey) if kind == "|u1" else np.asarray(upright).astype(kind, copy=False)
        mode = image.mode
        high = np.asarray(_upright(image))
    with opened(path, frame) as image:  # once more for the lower bytes: Pillow hands out the upper ones alone
        lower = _LOWER[raw]
        image.tile = [
            tile._replace(args=(lower, *tile.args[1:]) if isinstance(tile.args, tuple) else lower)
            for tile in image.tile
        ]
        low = np.asarray(_upright(image))
    if raw == _GREY_ALPHA:  # read as four channels: upper and lower byte of grey, and of alpha
        return _joined(low[..., 0], low[..., 1])
    if mode not in ("RGB", "RGBA", "RGBX"):
        raise DataError(f"16 bits of mode {mode} cannot be read; save it as RGB or grey")
    values = _joined(high[..., :3], low[..., :3])
    return _luminance(values) if grey else values


def _joined(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return np.stack([upper, lower], axis=-1).view(">u2")[..., 0].astype(np.uint16)


def _luminance(colour: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Grey (height, width) of colour (height, width, 3) with 16 bits, in the arithmetic of Pillow for 8 bits."""
    grey: NDArray[np.uint64] = colour.astype(np.uint64) @ np.array([19595, 38470, 7471], np.uint64)
    return (grey + 0x8000 >> 16).astype(np.uint16)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_GREY_ALPHA = "LA;16B"
_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_TOO_LARGE = "its header claims more pixels than any CT slice has"  # MOST_PIXELS


#: By the form in a file the one whose upper bytes are its lower ones.
_LOWER = {_GREY_ALPHA: "RGBA"} | {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX", "RGBa", "CMYK")
    for order, other in _OTHER.items()
}


def _bounded(image: ImageFile) -> ImageFile:
    if image.width * image.height > MOST_PIXELS:
        raise DataError(_TOO_LARGE)
    return image


def _kind(image: ImageFile) -> str:
    tags = getattr(image, "tag_v2", {})
    signed, white_is_0 = tags.get(339, (1,))[0] == 2, tags.get(262) == 0  # SampleFormat, PhotometricInterpretation
    if (image.mode == "L" and signed) or (image.mode.startswith(("I", "F")) and white_is_0):  # Pillow takes no notice
        raise DataError(
            "signed values of 8 bits, or deep ones with white as 0, cannot be read; save it in another form"
        )
    if image.mode.startswith("I;16"):
        return "<u2"
    return _COLOUR if _deep_colour(image) else _DEEP.get(image.mode, "|u1")


def _deep_colour(image: ImageFile) -> str:
    """The form of a picture's values in its file where that is colour with 16 bits, else ""."""
    raws = {args if isinstance(args, str) else str((args or ("",))[0]) for *_, args in image.tile}
    if len(raws) == 1 and (raw := next(iter(raws))) in _LOWER:
        return raw
    bits = getattr(image, "tag_v2", {}).get(258, (8,))  # BitsPerSample
    if len(bits) > 1 and max(bits) > 8:
        raise DataError(f"colour of {max(bits)} bits in this form cannot be read; save it with interleaved channels")
    return ""


def _orientation(image: ImageFile) -> int:
    """EXIF orientation by the header of a picture; 1, upright, for TIFF, which Pillow turns by itself."""
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):  # else the pixels are decoded
        return 1
    with suppress(Exception):  # damaged metadata say nothing
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _upright(image: ImageFile) -> Image.Image:
    orientation = _orientation(image)
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _eight_bits(image: Image.Image, grey: bool) -> NDArray[np.uint8]:
    if grey or image.mode in ("L", "1", "LA"):
        return np.asarray(image if image.mode == "L" else image.convert("L"))
    with_alpha = image.convert("RGBA") if image.mode in ("P", "PA", "RGBa") else image  # it may hold transparency
    return np.asarray(with_alpha if image.mode == "RGB" else with_alpha.convert("RGB"))


# --- depth --------------------------------------------------------------------------------------------------------


class Look(NamedTuple):
    """What is known of the values of one picture."""

    kind: str  #: type of the values
    low: float
    high: float
    usual: float  #: 99 % of the values are at or below it
    pages: int


def look_at(path: Path) -> Look:
    """Decode a picture and look at its values. Raises ``DataError`` where it cannot be decoded, or holds NaN."""
    pages = 1
    with opened(path) as image, suppress(Exception):  # pages that are damaged are none
        pages = getattr(image, "n_frames", 1)
    values = decoded(path).ravel()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError("it has NaN values")
    some = values[:: 1 + (len(values) >> 20)]  # enough of a large picture
    usual = np.partition(some, last := int(0.99 * (len(some) - 1)))[last]
    return Look(values.dtype.str, float(values.min()), float(values.max()), float(usual), pages)


@dataclass(frozen=True)
class Scale:
    """Where the values of a set's pictures of one type begin, and how many make up its depth."""

    low: float
    span: float

    def shown(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return values of any shape in 256 levels."""
        if values.dtype == np.uint8:
            return values
        levels = np.floor((values.astype(np.float64) - self.low) * (256 / self.span))
        return levels.clip(0, 255).astype(np.uint8)

    def level(self, value: float) -> float:
        """Return where a value lies in 0..256."""
        return (value - self.low) * 256 / self.span


def scales(looks: Sequence[Look]) -> Mapping[str, Scale]:
    """Choose one scale for all pictures of a type: the depth in use by the brightest of them.

    Whole numbers: 8 bits, or the next even number of bits that holds all. Floats likewise, or 0..1 where they lie in
    it. With negative values: from the lowest to the highest.
    """
    found = {}
    for kind in sorted({look.kind for look in looks}):
        low = min(look.low for look in looks if look.kind == kind)
        high = max(look.high for look in looks if look.kind == kind)
        bits = max(8, -2 * (-int(high).bit_length() // 2))
        if low < 0:
            found[kind] = Scale(low, (high - low) or 1.0)
        else:
            found[kind] = Scale(0.0, 1.0 if "f" in kind and high <= 1 else 2.0**bits)
    return found


def depths(looks: Sequence[Look]) -> str:
    """Say how pictures that are not all of 8 bits are shown, "" where they are."""
    counts, chosen = Counter(look.kind for look in looks), scales(looks)
    if counts.keys() <= {"|u1"}:
        return ""
    parts = []
    for kind, count in sorted(counts.items()):
        low, span, floats = chosen[kind].low, chosen[kind].span, " (floats)" * ("f" in kind)
        parts.append(f"{count} of {8 * np.dtype(kind).itemsize} bits{floats}, shown from {low:g} to {low + span:g}")
    return f"pictures: {'; '.join(parts)}"


def few_levels(looks: Sequence[Look]) -> str:
    """Warn where half of the pictures use few of the 256 levels they are shown in; "" where they do not."""
    chosen = scales(looks)
    levels = np.median([chosen[look.kind].level(look.usual) for look in looks]) if looks else 256
    if levels >= FEW_LEVELS:
        return ""
    return f"half of the {len(looks)} images are darker than {FEW_LEVELS} of 256 grey levels in 99 % of their pixels"
