"""What a pipeline file may hold: its tables, each a model of the core's keys and of the parameters of a plugin.

Validation, the JSON Schema, ``ctkit init`` and the checks of ``ctkit.testing`` all read it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    create_model,
    model_validator,
)

from ctkit.contracts.params import WrittenPath
from ctkit.errors import PluginError, nearest
from ctkit.hookspecs import Kind
from ctkit.plugins import Entry

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
Scope = Literal["volume", "patient", "dataset"]
SCOPES: frozenset[str] = frozenset(get_args(Scope))
BASELINE = "untrained"  #: method of a ``[[baseline]]`` that names none


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSection(Section):
    """``[run]``: what the run is called and how often it is repeated."""

    name: str = Field(pattern=ID, description="results go to runs/<name>/ beside the current folder, or to `out`")
    seed: int = Field(42, ge=0, lt=2**32, description="first seed")
    seeds: PositiveInt = Field(1, description="repeats of draw, pre-training and evaluation: seed, seed + 1, ...")
    out: WrittenPath | None = Field(None, description="folder of the run, instead of runs/<name>")


class ComputeSection(Section):
    """``[compute]``: where the work happens."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="cuda where torch can use one, else cpu")
    devices: PositiveInt = Field(1, description="GPUs that share each pre-training; processes, where it is on the CPU")
    workers: Literal["auto"] | PositiveInt = Field("auto", description="worker processes; auto: one a usable core")
    backend: Literal["processes", "dask"] = Field("processes", description="a process pool here, or a Dask cluster")
    scheduler: str | None = Field(None, description='address of the Dask scheduler, "tcp://host:8786"')
    time_limit: PositiveFloat = Field(300.0, description="seconds one volume may take before it is given up")

    @model_validator(mode="after")
    def _scheduler_needs_dask(self) -> ComputeSection:
        if self.scheduler is not None and self.backend != "dask":
            raise ValueError('scheduler needs backend = "dask"')
        return self


class ReportSection(Section):
    """``[report]``: what the page shows."""

    images: bool = Field(True, description="show pixels of slices")


class Window(Section):
    """A range of Hounsfield units that fills the grey scale."""

    centre: float = Field(description="middle of the range, HU")
    width: PositiveFloat = Field(description="extent of the range, HU")


def _rendering(name: str) -> str:
    if name not in INTENSITIES:
        raise ValueError(f"there is no rendering {name!r}; {nearest(name, INTENSITIES)}")
    return name


class Rendering(Section):
    """How the slice store shows a slice to training."""

    intensity: (
        Annotated[str, AfterValidator(_rendering), Field(json_schema_extra={"enum": list(INTENSITIES)})] | Window
    ) = Field("hu-window", description="grey scale: a name, or { centre = ..., width = ... } in HU")
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
    """The keys of ``[[reduce]]`` that are the core's, but for ``steps``."""

    id: str | None = Field(None, pattern=ID, description="name of the arm; none: made of its reducer and values")
    keep: Keep | None = Field(None, description="budget: { share = ... }, { count = ... } or { like = ARM }")


class StepKeys(Section):
    """The keys of a step that are the core's."""

    scope: Scope | None = Field(None, description="what one decision covers; none: what suits the reducer")


class OneStepKeys(ArmKeys, StepKeys):
    """The keys of ``[[reduce]]`` that are the core's, where it has one step."""


class StepsKeys(ArmKeys):
    """The keys of ``[[reduce]]`` that has several steps."""

    steps: list[dict[str, Any]] = Field(min_length=1, description="reducers that choose one after the other")


class TaskKeys(Section):
    """The keys of ``[[task]]`` that are the core's."""

    id: str | None = Field(None, pattern=ID, description="what results are listed under; none: the task's name")
    protocol: Any = Field("linear", description='how it is scored: a name, { use = "linear", ... }, or a list of these')
    repeats: PositiveInt = Field(1, description="repeats of the evaluation of each backbone")
    labels: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, description="shares of the training labels to score with"
    )
    monitor: bool = Field(
        False, description="log k-NN accuracy on its training images during pre-training; that changes no backbone"
    )


class PretrainKeys(Section):
    """The keys of ``[[pretrain]]`` and ``[[baseline]]`` that are the core's."""

    id: str | None = Field(None, pattern=ID, description="what results are listed under; none: the method's name")


@dataclass(frozen=True)
class Table:
    """A kind of table in a pipeline file."""

    name: str
    keys: type[Section]  #: that are the core's
    kind: Kind | None = None  #: of the plugin whose parameters stand beside them
    many: bool = False  #: it is written as [[name]] and may be repeated
    use: str | None = None  #: the plugin of a table that names none

    @cache  # noqa: B019  # tables and entries are few and live as long as the program
    def model(self, entry: Entry) -> type[BaseModel]:
        """Return the model of a table that uses a plugin. Raises ``PluginError`` where the plugin is not usable."""
        params = entry.load().params_type
        if taken := sorted(core_keys(entry.kind) & params.model_fields.keys()):
            raise PluginError(f"{entry.title} has a parameter {taken[0]!r}, but that key is the core's own")
        qualified = f"{entry.distribution}:{entry.name}"
        names: Any = Literal[(qualified,) if entry.status == "clash" else (entry.name, qualified)]
        default: Any = Field(entry.name if entry.name == self.use else ..., description=entry.summary)
        return create_model(
            f"{self.name}.{entry.name}", __base__=(params, self.keys), __doc__=entry.summary, use=(names, default)
        )


#: The tables of a pipeline file, in the order of ``ctkit init``.
TABLES = {
    table.name: table
    for table in (
        Table("run", RunSection),
        Table("compute", ComputeSection),
        Table("dataset", Rendering, "dataset"),
        Table("reduce", OneStepKeys, "reducer", many=True),
        Table("pretrain", PretrainKeys, "method", many=True),
        Table("baseline", PretrainKeys, "method", many=True, use=BASELINE),
        Table("task", TaskKeys, "task", many=True),
        Table("report", ReportSection),
    )
}
STEPS = Table("steps", StepKeys, "reducer", many=True)  #: in [[reduce]], in place of a reducer
PROTOCOL = Table("protocol", Section, "protocol")  #: in [[task]]


@cache
def core_keys(kind: str) -> frozenset[str]:
    """Keys that the core keeps for itself beside the parameters of a kind of plugin."""
    own = [table.keys for table in (*TABLES.values(), STEPS, PROTOCOL) if table.kind == kind]
    own += [StepsKeys] if kind == "reducer" else []
    return frozenset({"use"}.union(*(keys.model_fields for keys in own)))
