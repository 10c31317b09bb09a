"""Data sets: source files become volumes, by their headers, and volumes become pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

from ctkit.contracts.params import Ints, P, Plugin
from ctkit.errors import RequestError

SliceFormat = Literal["list", "dicom", "png", "nifti"]  #: in which kept slices are exported


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as its folder lists it. ``path`` is relative to the data set's root, with forward slashes."""

    path: str
    size: int  #: bytes
    mtime_ns: int

    def __reduce__(self) -> tuple[type[SourceFile], tuple[str, int, int]]:
        return SourceFile, (self.path, self.size, self.mtime_ns)  # thrice as fast as what slots do by themselves


@dataclass(frozen=True, slots=True)
class Skipped:
    """A source that is left out, and why. Reasons hold no patient name, id, date or path."""

    source: str
    reason: str
    retry: bool = False  #: the reason may pass, as where a file cannot be opened: a later run looks again


@dataclass(frozen=True)
class Volume:
    """One series of ``n`` parallel slices, in anatomical order, as its headers describe it."""

    key: str  #: names the volume within the data set, for instance the SeriesInstanceUID; the core publishes a digest
    patient: str  #: names the patient; the core publishes a digest
    files: tuple[SourceFile, ...]  #: every file the volume is read from; () where there is none (synthetic data)
    slices: tuple[tuple[int, int], ...]  #: (n,) for each slice: number of its file in ``files``, frame inside that file
    rows: int
    columns: int
    spacing: tuple[float | None, float | None, float | None] = (None, None, None)  #: x, y, z in mm; z is the median
    order: tuple[str, ...] = ()  #: (n,) keys that order slices inside any group; () orders by patient, key and index
    notes: tuple[str, ...] = ()  #: what a reader should know: tilt, gaps, uneven spacing, mixed thickness
    details: Mapping[str, Any] = field(default_factory=dict)  #: JSON-able facts that ``read`` needs again
    kernel: str = ""  #: of the reconstruction: a name that scanners write, "other", or "" where unknown
    thickness: float | None = None  #: of a slice, mm
    same_scan: str = ""  #: key of an earlier volume that was reconstructed from the same scan

    def __len__(self) -> int:
        return len(self.slices)

    def source(self, index: int) -> str:
        """Path of the file that slice ``index`` comes from; the volume's key where it comes from none."""
        number = self.slices[index][0]
        return self.files[number].path if self.files else self.key


@dataclass(frozen=True)
class Pixels:
    """What was read of one volume: ``m`` of its ``n`` slices. Rows run to the back, columns to the patient's left."""

    values: NDArray[Any]  #: (m, rows, columns), finite; int16 where ``unit`` is HU
    index: Ints  #: (m,) the slices' numbers in the volume, ascending
    unit: Literal["HU", "arbitrary"]
    skipped: tuple[tuple[int, str], ...] = ()  #: number and reason of each slice that was asked for and not readable
    retry: bool = False  #: one of the reasons may pass, such as a missing decoder: a later run reads again
    notes: tuple[str, ...] = ()  #: of the volume, whichever slices were asked for: what only its pixels could tell
    ends: NDArray[Any] | None = None  #: (m, 2) lowest and highest value of each slice, where they are known


@dataclass(frozen=True)
class VolumeFacts:
    """What a source says of a volume beside its pixels: for explaining a selection, never for making one."""

    traits: Mapping[str, str] = field(default_factory=dict)  #: such as manufacturer and kernel; nothing of the patient
    findings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Numbers of the slices with each kind of finding; () for a kind that was searched for but not found."""


class Dataset(Plugin[P], ABC):
    """A source of CT volumes.

    ``files``, ``inspect`` and ``arrange`` together are the scan: it touches headers only, and every file ends in a
    volume or in a ``Skipped``. They are three so that the core can inspect in parallel and only what is new.
    """

    dicom: ClassVar[bool] = False  #: the source files are DICOM, so that they can be handed on as they are

    @abstractmethod
    def files(self) -> Iterator[SourceFile]:
        """Every file below the root, in a fixed order, by looking at folders only."""

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """JSON-able facts from one file's header, or why the file is left out.

        Pure; runs in worker processes. It must not depend on parameters that only choose (``"address": False``):
        those are ``arrange``'s business, so that another choice opens no file again.
        """
        return {}

    @abstractmethod
    def arrange(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Group what ``inspect`` accepted into volumes; leave out with a reason what belongs to none."""

    @abstractmethod
    def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
        """Decode the ``wanted`` slices of a volume (all by default). One bad slice is skipped, never fatal.

        Raises ``ctkit.errors.DataError`` only where nothing of the volume can be read, with ``retry`` where that may
        pass.
        """

    def read_blocks(self, volume: Volume, wanted: Ints | None = None) -> Iterator[Pixels]:
        """What ``read`` gives, in order, a few slices at a time, so that they stay in the processor's cache.

        By default all at once. The values of one block may be overwritten by the next.
        """
        yield self.read(volume, wanted)

    def places(self, volume: Volume, index: Ints) -> NDArray[Any] | None:
        """Where the slices ``index`` (m,) of a volume lie, None unless a data set knows: (m, 3, 3) float64 in mm.

        The columns of each matrix are the step to the next column of pixels, that to the next row, and the first pixel,
        to the patient's right, front and head: ``matrix @ (column, row, 1)`` is where a pixel is.
        """
        return None

    def facts(self, volume: Volume) -> VolumeFacts:
        """What the source says of a volume beside its pixels; nothing unless a data set knows better.

        Runs in worker processes. What cannot be read is left out, for it only explains.
        """
        return VolumeFacts()


def refuse_without_sources(dataset: Dataset[Any], name: str, form: SliceFormat) -> None:
    """Raise ``RequestError`` where the data set ``name`` has no source files for a format; known before any run."""
    if form in ("list", "dicom") and dataset.root is None:
        raise RequestError(f"data set {name} has no source files to export as {form}; take png or nifti")
    if form == "dicom" and not dataset.dicom:
        raise RequestError(f"the source files of data set {name} are not DICOM; take list, png or nifti")
