"""Tasks ``organsmnist`` and ``medmnist``: the 2-D sets of MedMNIST v2.

Yang et al. 2023, Scientific Data 10:41, doi:10.1038/s41597-022-01721-8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ctkit.contracts import InputPath, Params, SourceFile, Split, Task
from ctkit.errors import DataError, RequestError, nearest
from ctkit_tasks.image_files import found_instead, source_file
from ctkit_torch.weights import faults_of_fetching

_ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)

#: Classes of each set with one label an image, in the order of their numbers.
CLASSES: dict[str, tuple[str, ...]] = {
    "bloodmnist": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocyte",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ),
    "breastmnist": ("malignant", "normal or benign"),
    "dermamnist": (
        "actinic keratosis",
        "basal cell carcinoma",
        "benign keratosis",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevus",
        "vascular lesion",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
    "pathmnist": (
        "adipose",
        "background",
        "debris",
        "lymphocytes",
        "mucus",
        "smooth muscle",
        "normal colon mucosa",
        "cancer-associated stroma",
        "colorectal adenocarcinoma epithelium",
    ),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4"),
    "tissuemnist": (
        "collecting duct or connecting tubule",
        "distal convoluted tubule",
        "glomerular endothelial cell",
        "interstitial endothelial cell",
        "leukocyte",
        "podocyte",
        "proximal tubule segment",
        "thick ascending limb",
    ),
}
_POSITIVE = {"breastmnist": "malignant", "pneumoniamnist": "pneumonia"}


class MedMnistParams(Params):
    """Which set, at which size, and where it lies."""

    name: str = Field(description="the set's name at MedMNIST, such as pneumoniamnist")
    root: InputPath | None = Field(
        None,
        description="the .npz file or its folder; without it the package medmnist fetches and checks the file",
    )
    size: Literal[28, 64, 128, 224] = Field(28, description="side of the images in the file, in pixels")

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in CLASSES:
            raise ValueError(
                f"no 2-D set of MedMNIST with one label an image is called {name!r}; {nearest(name, CLASSES)}"
            )
        return name


class OrganSMnistParams(MedMnistParams):
    """At which size, and where it lies."""

    name: Literal["organsmnist"] = Field("organsmnist", description="the set's name at MedMNIST")


P = TypeVar("P", bound=MedMnistParams)


class MedMnistFile(Task[P]):
    """A set as ``<name>.npz`` (28 pixels) or ``<name>_<size>.npz``, with its own split."""

    mean_std = (0.5, 0.5)  # the paper's

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the set's classes."""
        return CLASSES[self.params.name]

    @property
    def positive_class(self) -> str | None:
        """The disease, in a set of two classes."""
        return _POSITIVE.get(self.params.name)

    @property
    def root(self) -> Path | None:
        """Folder of the file; None where the package medmnist keeps it."""
        root = self.params.root
        return root.parent if root is not None and root.is_file() else root

    def check(self, device: str | None) -> Iterable[str]:
        """Say why the file cannot be had, or is another one. Of the images it reads type and shape alone."""
        path = self._place
        if path.is_file():
            self._all_checked(_headers(path))
        elif self.params.root is not None:
            yield self._lacking
        else:
            listed = _package(self.params.name, path.name).INFO[self.params.name]
            yield from faults_of_fetching(path.name, listed[f"url{_suffix(self.params.size)}"], path.parent)

    def files(self) -> Iterator[SourceFile]:
        """The one file; none where the package medmnist keeps it and vouches for it by a checksum."""
        if self.params.root is not None:
            yield source_file(self._file, self._file.name)

    def splits(self) -> Mapping[str, Split]:
        """The set's own train, val and test."""
        return {
            split: Split(tuple(f"{split}-{number:06d}" for number in range(len(labels))), labels)
            for split, (_, labels) in self._arrays.items()
        }

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One image as the file has it."""
        image: NDArray[np.uint8] = self._arrays[split][0][number]
        return image

    @property
    def _place(self) -> Path:
        """Where the file is or would be."""
        name, root = f"{self.params.name}{_suffix(self.params.size)}.npz", self.params.root
        if root is None:
            return Path(_package(self.params.name, name).info.DEFAULT_ROOT) / name
        return root if root.is_file() else root / name

    @property
    def _lacking(self) -> str:
        place = self._place
        return f"expects {place.name} in {place.parent}, but {found_instead(place.parent)}"

    @cached_property
    def _file(self) -> Path:
        path = self._place
        if self.params.root is None:
            return _fetched(self.params.name, self.params.size, path)
        if not path.is_file():
            raise RequestError(f"task {self.params.name} {self._lacking}")
        return path

    @cached_property
    def _arrays(self) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        with _opened(self._file) as content:
            return self._all_checked(content)

    def _all_checked(self, content: Mapping[str, Any]) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        return {split: self._checked(content, split) for split in ("train", "val", "test")}

    def _checked(self, content: Mapping[str, Any], split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images (n, size, size) or (n, size, size, 3) and labels (n,) of a split."""
        images, labels = content[f"{split}_images"], content[f"{split}_labels"]
        size, classes = self.params.size, len(self.classes)
        if images.shape[1:] not in ((size, size), (size, size, 3)) or images.dtype != np.uint8:
            raise RequestError(
                f"task {self.params.name} expects 8-bit images of {size} pixels in {self._place}, but {split} has "
                f"{images.dtype} of shape {images.shape}; set size to that of the file"
            )
        if labels.shape != (len(images), 1) or not np.isin(labels, range(classes)).all():
            raise RequestError(
                f"task {self.params.name} expects one label of {classes} classes for each image in {self._place}, but "
                f"{split} has labels of shape {labels.shape} from {labels.min()} to {labels.max()}: is it another set?"
            )
        return images, labels[:, 0].astype(np.int64)


class MedMnist(MedMnistFile[MedMnistParams]):
    """Any of the sets in ``CLASSES``."""


class OrganSMnist(MedMnistFile[OrganSMnistParams]):
    """Organs in sagittal CT patches, 11 classes."""


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Any]]:
    """Open a set's file. Raises ``DataError`` where it is not whole."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            yield content
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{path} is no whole MedMNIST file: {error}") from error


def _headers(path: Path) -> dict[str, NDArray[Any]]:
    """The labels of a set, and arrays of the type and shape of its images, which are not read."""
    with _opened(path) as content, ZipFile(path) as file:
        found = {name: content[name] for name in content if name.endswith("labels")}
        for name in (name for name in content if name.endswith("images")):
            with file.open(f"{name}.npy") as member:
                major, _ = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            found[name] = np.broadcast_to(np.zeros((), dtype), shape)
    return found


def _package(name: str, file: str) -> Any:
    """Import the package medmnist. Raises ``RequestError`` where it is missing."""
    try:
        import medmnist
    except ImportError as error:
        raise RequestError(
            f"task {name} needs root, the folder of {file} (from medmnist.com), or the package that fetches it: "
            "pip install medmnist"
        ) from error
    return medmnist


def _fetched(name: str, size: int, path: Path) -> Path:
    """Let the package medmnist fetch a file into its own folder; the checksum that it lists must be the file's."""
    medmnist = _package(name, path.name)
    if not path.is_file():
        kind = getattr(medmnist, medmnist.INFO[name]["python_class"])
        try:
            kind(split="train", download=True, size=size, root=str(path.parent))
        except (RuntimeError, OSError) as error:
            raise DataError(f"the package medmnist could not fetch {path.name}: {error}") from error
    listed, found = medmnist.INFO[name][f"MD5{_suffix(size)}"], _md5(path)
    if found != listed:
        raise DataError(
            f"{path} must have the MD5 {listed}, as the package medmnist lists it, but has {found}: "
            "delete it to have it fetched anew, or give root where it is a file of your own"
        )
    return path


def _suffix(size: int) -> str:
    """How MedMNIST marks the size in names."""
    return "" if size == 28 else f"_{size}"


@cache  # the larger files have gigabytes
def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
