"""What plugins implement, and the things they exchange with the core. Read this page before writing a plugin.

Five kinds of plugin, each one class with a frozen parameter model, found through ``ctkit.hookspecs``:

    ========  =====================================  =================================================================
    kind      turns                                  by implementing
    ========  =====================================  =================================================================
    Dataset   source files into volumes              ``files`` ``inspect`` ``arrange`` (headers only) and ``read``
    Reducer   slices into evidence, that into a      ``describe`` (only where it looks at pixels) and ``select``
              decision
    Method    an arm's slices into a backbone        ``pretrain``; contrastive ones: ``ctkit_models.Contrastive``
    Task      a labelled image set into splits       ``classes`` ``splits`` ``image``
    Protocol  a backbone and a task into             ``predict`` ``scores`` ``compare``
              predictions and scores
    ========  =====================================  =================================================================

The core owns everything else: names, seeds, caching, parallel work, budgets, composition, files and reports. A plugin
is built once per process with its validated parameters and holds no other state; ``version`` is raised when its results
change, which is what invalidates cached results.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar, cast, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo

from ctkit.errors import RequestError

if TYPE_CHECKING:
    from ctkit.hookspecs import Kind

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# --- parameters ---------------------------------------------------------------------------------------------------


class Params(BaseModel):
    """Base of a plugin's parameters: frozen, unknown keys refused. Give each field a type, bounds and a description.

    A parameter that changes no result (a filter that only chooses among volumes, how often to log) carries
    ``Field(..., json_schema_extra={"address": False})``; changing it then invalidates nothing that is cached. One of a
    reducer that ``select`` reads and ``describe`` does not carries ``{"describe": False}``: the evidence stays. One of
    a method that makes no step slower, such as their number, carries ``{"pace": False}``: the times of earlier
    trainings still tell how long one takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class NoParams(Params):
    """The parameters of a plugin that has none."""


def _resolve(path: Path, info: ValidationInfo) -> Path:
    base: Path = (info.context or {}).get("base", Path())
    found = (base / path.expanduser()).absolute()
    if not found.exists():
        raise ValueError(f"no such file or folder: {found}")
    return found


#: A file or folder that must exist; in a pipeline file it is relative to that file.
InputPath = Annotated[Path, AfterValidator(_resolve)]

P = TypeVar("P", bound=Params)


class Plugin(Generic[P]):
    """Base of the five kinds. ``class Mine(Reducer[MyParams])`` makes ``self.params`` a ``MyParams``."""

    version: ClassVar[int] = 1
    params_type: ClassVar[type[Params]] = NoParams

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in vars(cls).get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, Params):
                    cls.params_type = argument
                elif isinstance(argument, type) and issubclass(argument, BaseModel):
                    raise TypeError(
                        f"parameters must derive from ctkit.contracts.Params but {argument.__name__} of {cls.__name__}"
                        " does not; derive it from Params"
                    )

    def __init__(self, params: P | None = None) -> None:
        self.params: P = cast(P, self.params_type()) if params is None else params


# --- datasets -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as its folder lists it. ``path`` is relative to the data set's root, with forward slashes."""

    path: str
    size: int  #: bytes
    mtime_ns: int


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


@dataclass(frozen=True)
class VolumeFacts:
    """What a source says of a volume beside its pixels: for explaining a selection, never for making one."""

    traits: Mapping[str, str] = field(default_factory=dict)  #: such as manufacturer and kernel; nothing of the patient
    findings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Numbers of the slices that show each kind of finding; () for a kind that was looked for and not found."""


class Dataset(Plugin[P], ABC):
    """A source of CT volumes.

    ``files``, ``inspect`` and ``arrange`` together are the scan: it touches headers only, and every file ends in a
    volume or in a ``Skipped``. They are three so that the core can inspect in parallel and only what is new.
    """

    dicom: ClassVar[bool] = False  #: the source files are DICOM, so that they can be handed on as they are

    @property
    def root(self) -> Path | None:
        """Folder that ``SourceFile.path`` is relative to; None for synthetic data."""
        root = getattr(self.params, "root", None)
        return root if isinstance(root, Path) else None

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

    def facts(self, volume: Volume) -> VolumeFacts:
        """What the source says of a volume beside its pixels; nothing unless a data set knows better.

        Runs in worker processes. What cannot be read is left out, for it only explains.
        """
        return VolumeFacts()


# --- reducers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Knob:
    """The one number of a reducer that a budget may turn. For likeness: slices are alike when distance <= knob."""

    name: str
    unit: str
    low: float
    high: float
    default: float | None = None  #: None: the pipeline must give the knob or a budget
    integer: bool = False
    share: bool = False  #: it is the part of a group's slices that is kept, so a budget need not search for it


@dataclass(frozen=True)
class Slices:
    """What ``describe`` sees: the readable slices of one volume, in order."""

    grey: NDArray[np.uint8]  #: (n, rows, columns) evidence rendering: each slice's minimum..maximum to 0..255
    hu: NDArray[np.int16] | None  #: (n, rows, columns) Hounsfield units; None where the source has none
    index: Ints  #: (n,) numbers in the volume
    device: str = "cpu"  #: where an accelerator reducer may work: "cpu" or "cuda"


@dataclass(frozen=True)
class Group:
    """What one decision covers: the slices of a volume, a patient or the data set, in order. Never pixels."""

    volume: Ints  #: (n,) number of each slice's volume
    index: Ints  #: (n,) number of each slice in its volume
    evidence: NDArray[Any] | None  #: (n, ...) for evidence "slice"; condensed (n (n - 1) / 2,) for "pair"; or None

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Decision:
    """What to keep of a group, and who stands for what is dropped."""

    kept: Bools  #: (n,)
    by: Ints | None = None  #: (n,) position in the group of the kept slice that stands for a dropped one, -1 for none
    distance: NDArray[np.float32] | None = None  #: (n,) distance to it in the knob's unit, NaN for none


class Reducer(Plugin[P], ABC):
    """A way to choose slices. It describes and selects; scope, budgets, steps, seeds and caching are the core's."""

    evidence: ClassVar[Literal["none", "slice", "pair"]] = "none"  #: "pair" lives inside a volume
    scopes: ClassVar[frozenset[str]] = frozenset({"volume", "patient", "dataset"})
    default_scope: ClassVar[Literal["volume", "patient", "dataset"]] = "volume"
    device: ClassVar[Literal["cpu", "accelerator"]] = "cpu"  #: accelerator: one process owns each, workers feed it
    draws: ClassVar[bool] = False  #: uses the generator, so there is one selection per seed
    shared_evidence: ClassVar[str | None] = None  #: reducers of one name here and equal parameters share evidence
    keeps_all: ClassVar[bool] = False  #: keeps every slice whatever the pixels, so that one pass reads and stores
    knob: Knob | None = None  #: an instance may narrow it, where its range depends on its parameters

    def describe(self, slices: Slices) -> NDArray[Any]:
        """Evidence of one volume: (n, ...) for "slice", condensed (n (n - 1) / 2,) for "pair". Pure."""
        raise TypeError(f"{type(self).__name__} declares evidence {self.evidence!r} but has no describe")

    @abstractmethod
    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Choose from ``group`` with the knob ``at`` (NaN where there is no knob). Draw from ``rng`` alone."""


# --- pre-training -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """An arm's ``n`` slices in the slice store. Shards are ``.npy`` files (rows, size, size) uint8, to be mapped."""

    shards: tuple[Path, ...]
    shard: Ints  #: (n,) number of each slice's shard
    row: Ints  #: (n,) number of each slice's row in that shard
    volume: Ints  #: (n,) number of each slice's volume
    size: int  #: side of a row in pixels
    mean: float  #: of the arm's pixels, on the scale 0..1
    std: float

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Pretraining:
    """One job for a method: these slices, this seed, here."""

    rows: Rows
    seed: int
    device: str  #: "cpu" or "cuda"
    workers: int
    folder: Path  #: survives a kill: keep checkpoints here and go on from them; write ``backbone.safetensors`` here
    metadata: Mapping[str, str]  #: to be written into the backbone: arm, data fingerprint, rendering
    progress: Callable[[int, int], None]  #: call with steps done and steps in all
    metric: Callable[[str, float, int], None]  #: call with name, value and step
    devices: int = 1  #: GPUs, or processes on the CPU, that may share the work; the result is to be the same
    watched: Mapping[str, Task[Any]] = field(default_factory=dict)
    """Tasks by id, by whose training images a method may measure how it comes on; the result is to be the same."""


@dataclass(frozen=True)
class Pretrained:
    """What came out. ``backbone`` holds a trunk under torchvision's names, for 3 input channels."""

    backbone: Path
    steps: int
    epochs: float
    batch: int
    seconds: float  #: of training, over all sittings
    history: tuple[tuple[int, str, float], ...] = ()  #: (step, name, value), for the curves
    notes: tuple[str, ...] = ()  #: what the user must know: a lowered batch or queue, a collapse
    collapsed: bool = False  #: the backbone does not tell slices apart; a note says how that shows
    waiting: float | None = None  #: share of ``seconds`` in which the device waited for data
    joules: float | None = None  #: energy that the device took
    peak_bytes: int | None = None  #: most memory that the training took on a GPU


ExportFormat = Literal["torchvision", "timm", "onnx", "torchscript"]


@dataclass(frozen=True)
class Exported:
    """A backbone that was written for use without ctkit, and what came of loading it again."""

    path: Path  #: a file; for timm a folder
    mean: float  #: to normalise images with, which are on the scale 0..1
    std: float
    compared: str  #: such as "512 features of 3 images of 224 pixels"
    difference: float  #: greatest one between the features of what was written and those of the original
    greatest: float  #: the original's greatest feature, in absolute value
    loading: tuple[str, ...]  #: lines of Python that turn ``images`` (n, 3, height, width) into ``features``


class Method(Plugin[P], ABC):
    """A way to pre-train. The same rows, seed and machine give the same backbone, also after a kill and resume.

    One that takes 0 steps trains nothing: it gives the baseline that others are measured against.
    """

    draws: bool = True  #: uses the seed; an instance may say that it does not, so that one backbone serves all seeds

    @abstractmethod
    def pretrain(self, job: Pretraining) -> Pretrained:
        """Train a trunk on ``job.rows`` and write it to ``job.folder / "backbone.safetensors"``."""

    def steps(self, slices: int, volumes: int) -> int | None:
        """Optimiser steps at most on ``slices`` of so many volumes, for ``--dry-run``; None where nobody can tell."""
        return None

    @classmethod
    def export(cls, backbone: Path, form: ExportFormat, out: Path) -> Exported:
        """Write a backbone of this method to ``out`` for use without ctkit, and check it against the original.

        A method that overrides this raises ``RequestError`` where a library is missing or the format does not fit, and
        ``DataError`` where what was written does not give the same features. By default no format is supported.
        """
        raise RequestError(f"method {cls.__name__} does not export backbones")


# --- tasks and protocols ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """One part of a task: ``n`` images by name, their labels, and their patients where the source knows them."""

    names: tuple[str, ...]  #: (n,) unique within the task
    labels: Ints  #: (n,) number of the class
    patients: tuple[str, ...] | None = None  #: (n,)


class Task(Plugin[P], ABC):
    """A labelled image set. Protocols and metrics are not its business."""

    positive: ClassVar[str | None] = None  #: the class that sensitivity and F1 speak of, in a task of two classes
    mean_std: ClassVar[tuple[float, float] | None] = None  #: on the scale 0..1; None: as the backbone was trained

    @property
    def root(self) -> Path | None:
        """Folder the images lie in; None for synthetic data."""
        root = getattr(self.params, "root", None)
        return root if isinstance(root, Path) else None

    def files(self) -> Iterator[SourceFile]:
        """Every file that the result depends on; none for synthetic data."""
        return iter(())

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""

    @property
    def positive_class(self) -> str | None:
        """Name of the positive class; tasks whose classes come from the data override this."""
        return self.positive

    @abstractmethod
    def splits(self) -> Mapping[str, Split]:
        """Parts ``train`` and ``test``, and ``val`` where there is one."""

    @abstractmethod
    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One image: (height, width) or (height, width, 3)."""


@dataclass(frozen=True)
class Evaluation:
    """One job for a protocol: this backbone on this task."""

    task: Task[Any]
    backbone: Path
    folder: Path  #: of this backbone on this task, survives a kill: keep here what other shares, seeds, protocols reuse
    labels: float  #: share of the training labels to use, class-balanced and nested
    seed: int
    device: str
    workers: int
    progress: Callable[[int, int], None]
    slices: Rows | None = None  #: what the backbone was trained on; None for a baseline, or where it is stored no more


@dataclass(frozen=True)
class Predictions:
    """Probabilities for the test split, from which every score is computed."""

    names: tuple[str, ...]  #: (n,)
    labels: Ints  #: (n,)
    probabilities: Floats  #: (n, classes)
    classes: tuple[str, ...]
    positive: str | None = None
    patients: tuple[str, ...] | None = None  #: (n,) intervals resample patients where they are known
    notes: tuple[str, ...] = ()  #: how they came about
    warnings: tuple[str, ...] = ()  #: what speaks against believing the scores: leaks, missing classes, lost images
    seed: int | None = None  #: of pre-training, set where runs are compared: those of one seed are repeats


@dataclass(frozen=True)
class Score:
    """A metric with its 95 % interval."""

    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A metric of an arm less the same metric of the reference arm, with interval, p value and the test's name."""

    metric: str
    difference: float
    low: float
    high: float
    p: float
    test: str


class Protocol(Plugin[P], ABC):
    """A way to score a backbone on a task. ``scores`` and ``compare`` are arithmetic on predictions alone."""

    @abstractmethod
    def predict(self, job: Evaluation) -> Predictions:
        """Fit on the task's training images and predict its test images."""

    @abstractmethod
    def scores(self, runs: Sequence[Predictions]) -> tuple[Score, ...]:
        """Scores of one run, or of several seeds pooled: the mean over runs, with an interval of that mean."""

    @abstractmethod
    def compare(self, arm: Sequence[Predictions], reference: Sequence[Predictions]) -> tuple[Difference, ...]:
        """Paired differences on the same test images, runs of ``arm`` against runs of ``reference``."""


BASES: Mapping[Kind, type[Plugin[Any]]] = {
    "dataset": Dataset,
    "reducer": Reducer,
    "method": Method,
    "task": Task,
    "protocol": Protocol,
}
"""The class that each kind of plugin derives from."""
