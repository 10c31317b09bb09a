"""What a file is that a data set cannot read, and which data set can: for the reasons of what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["dicom", "nifti", "metaimage", "images", "archive", "other"]

_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (  # place, bytes
    (128, b"DICM", "dicom"),
    (344, b"n+1\0", "nifti"),
    (4, b"n+2\0", "nifti"),
    (0, b"NRRD000", "metaimage"),
    (0, b"ObjectType = Image", "metaimage"),
    (0, b"\x89PNG", "images"),
    (0, b"\xff\xd8\xff", "images"),
    (0, b"PK\x03\x04", "archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive"),
    (0, b"Rar!", "archive"),
    (257, b"ustar", "archive"),
)
_SUFFIXES: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("archive", (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")),
    ("nifti", (".nii", ".nii.gz")),
    ("metaimage", (".mhd", ".mha", ".nrrd", ".nhdr")),
    ("images", (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")),
    ("dicom", (".dcm", ".dicom", ".ima")),
    ("other", (".img", ".hdr", ".npy", ".npz", ".h5", ".hdf5", ".mat", ".pt")),
)
_WORDS: dict[Kind, str] = {
    "dicom": "DICOM, which data set dicom reads",
    "nifti": "NIfTI, which data set nifti reads",
    "metaimage": "MetaImage or NRRD, which data set metaimage reads",
    "images": "a picture, which data set images reads",
    "archive": "an archive: unpack it, and use its folder as root",
    "other": "a format that no data set reads: save it as .nii.gz",
}


def other_kind(path: Path, own: Kind) -> str:
    """Return what a file is by its first bytes, or else its name, "" where that is unknown or what ``own`` reads."""
    try:
        with path.open("rb") as file:
            block = file.read(512)
    except OSError:
        return ""
    kind = next((kind for place, magic, kind in _MAGIC if block[place : place + len(magic)] == magic), None)
    kind = kind or next((kind for kind, suffixes in _SUFFIXES if path.name.lower().endswith(suffixes)), None)
    return "" if kind in (None, own) else _WORDS[kind]
