"""Methods: an arm's slices become a backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from ctkit.contracts.params import Ints, P, Plugin
from ctkit.contracts.task import Task
from ctkit.errors import RequestError


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


class ChildProcess(Protocol):
    """Work in a process of its own. It ends with the process that started it, and leaves Ctrl-C to that one."""

    name: str

    def is_ready(self, seconds: float) -> bool:
        """Wait until the process has imported what its work needs; whether it did within the time."""

    @property
    def died(self) -> bool:
        """Whether the process is gone and had not done its work. To be asked each second; ends one that is stopped."""

    def failure(self) -> str | None:
        """Why the process died, in words that begin with its name; None where it did not. To be asked once."""

    def join(self, seconds: float) -> None:
        """Wait for the process to end by itself."""

    def kill(self) -> None:
        """End the process and those that it started, if they have not ended. May be called twice."""


class StartChild(Protocol):
    """Starts child processes."""

    def __call__(self, name: str, work: Callable[[Any], object], item: object, threads: int = 1) -> ChildProcess:
        """Do ``work`` on ``item`` in a child process, whose native libraries have so many threads each.

        Both are pickled; nobody hears what the work returns. ``name`` is for messages, such as "process 2 of 4".
        """


def no_children(name: str, work: Callable[[Any], object], item: object, threads: int = 1) -> ChildProcess:
    """In the place of ``StartChild`` for a job on one device."""
    raise RequestError(f"{name} cannot be started, because the job has no start_child; use one device")


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
    """Tasks by id, on whose training images a method may measure its progress; this must not change the result."""
    start_child: StartChild = no_children  #: starts the processes for the other ``devices``


@dataclass(frozen=True)
class Pretrained:
    """What came out. ``backbone`` is a safetensors file of a trunk, for 3 input channels, without its classifier.

    Weights go by the names of torchvision, or of timm for a network of timm. Beside the job's metadata the file's has
    ``architecture``, the name of the network there, and ``mean`` and ``std`` of the slices on the scale 0..1, as text:
    by these every protocol, export and ``Run.backbone`` loads it. ``ctkit_torch.backbones.save_backbone`` writes it.
    """

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


ExportFormat = Literal["torchvision", "timm", "onnx", "torchscript", "monai", "monai-3d"]


@dataclass(frozen=True)
class Exported:
    """A backbone that was written for use without ctkit, and what came of loading it again."""

    path: Path  #: a file; for timm and monai a folder
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
    first: ClassVar[Mapping[str, Any]] = {}  #: parameters that ``ctkit init`` writes: a training that pays in minutes

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
