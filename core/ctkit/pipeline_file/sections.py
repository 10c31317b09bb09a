"""The sections of a pipeline file that are the core's own, each a validated model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

ID = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"  #: what a run, an arm, a pre-training or a task may be called
#: Windows by name: centre and width in HU. ``hu-window`` spans air to contrast-filled vessels.
WINDOWS: dict[str, tuple[float, float]] = {
    "hu-window": (-300, 1400),
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "abdomen": (50, 400),
    "bone": (400, 1800),
    "brain": (40, 80),
}
INTENSITIES = (*WINDOWS, "slice-min-max", "volume-min-max")
BASELINE = "untrained"  #: method of a ``[[baseline]]`` that names none


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSection(Section):
    """``[run]``: what the run is called and how often it is repeated."""

    name: str = Field(pattern=ID, description="results go to runs/<name>/ beside the current folder, or to `out`")
    seed: int = Field(42, ge=0, lt=2**32, description="first seed")
    seeds: PositiveInt = Field(1, description="repeats of draw, pre-training and evaluation: seed, seed + 1, ...")
    out: Path | None = Field(None, description="folder of the run, instead of runs/<name>")


class ComputeSection(Section):
    """``[compute]``: where the work happens."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="cuda where torch can use one, else cpu")
    devices: PositiveInt = Field(1, description="GPUs that share each pre-training; processes, where it is on the CPU")
    workers: Literal["auto"] | PositiveInt = Field("auto", description="worker processes; auto: one a usable core")
    backend: Literal["processes", "dask"] = Field("processes", description="a process pool here, or a Dask cluster")
    scheduler: str | None = Field(None, description='address of the Dask scheduler, "tcp://host:8786"')
    time_limit: PositiveFloat = Field(300.0, description="seconds one volume may take, or a process be stopped")

    @model_validator(mode="after")
    def _scheduler_needs_dask(self) -> ComputeSection:
        if self.scheduler is not None and self.backend != "dask":
            raise ValueError('scheduler needs backend = "dask"')
        return self


class ReportSection(Section):
    """``[report]``: what the page shows."""

    images: bool = Field(True, description="show pixels of slices")
    margin: PositiveFloat | None = Field(None, description="an arm is as good within this loss of score")


class Window(Section):
    """A range of Hounsfield units that fills the grey scale."""

    centre: float = Field(description="middle of the range, HU")
    width: PositiveFloat = Field(description="extent of the range, HU")


class Rendering(Section):
    """How the slice store shows a slice to training."""

    intensity: str | Window = "hu-window"
    size: int = Field(256, ge=16, le=1024, description="side of a stored slice, pixels")

    @property
    def levels(self) -> str | tuple[float, float]:
        """The rendering by name, or a window's centre and width in HU."""
        return self.intensity if isinstance(self.intensity, str) else (self.intensity.centre, self.intensity.width)


class Keep(Section):
    """A budget: the share or the number of the data set's slices to keep, or as many as another arm."""

    share: float | None = Field(None, gt=0, le=1)
    count: PositiveInt | None = None
    like: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Keep:
        given = [name for name in ("share", "count", "like") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("must hold exactly one of share, count and like")
        return self


class ArmKeys(Section):
    """The keys of ``[[reduce]]`` that are the core's."""

    id: str | None = Field(None, pattern=ID)
    keep: Keep | None = None


class StepKeys(Section):
    """The keys of a step that are the core's."""

    scope: Literal["volume", "patient", "dataset"] | None = None


class TaskKeys(Section):
    """The keys of ``[[task]]`` that are the core's."""

    id: str | None = Field(None, pattern=ID, description="what results are listed under; none: the task's name")
    repeats: PositiveInt = Field(1, description="repeats of the evaluation of each backbone")
    labels: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, description="shares of the training labels to score with"
    )
    monitor: bool = Field(
        False, description="log k-NN accuracy on its training images during pre-training; that changes no backbone"
    )


class PretrainKeys(Section):
    """The keys of ``[[pretrain]]`` and ``[[baseline]]`` that are the core's."""

    id: str | None = Field(None, pattern=ID)
