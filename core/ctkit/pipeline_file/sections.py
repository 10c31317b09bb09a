"""What a pipeline file may hold: its tables, each a model of the core's keys and of the parameters of a plugin.

Validation, the JSON Schema, ``ctkit init`` and the checks of ``ctkit.testing`` all read it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, create_model, model_validator

from ctkit.contracts.params import WrittenPath
from ctkit.contracts.reducer import Scope
from ctkit.errors import PluginError
from ctkit.hookspecs import Kind
from ctkit.plugins import Entry

ID = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"  #: what a run, an arm, a pre-training or a task may be called
#: ``slices.rendering`` says what windows these are.
Intensity = Literal[
    "hu-window", "lung", "mediastinum", "abdomen", "bone", "brain", "slice-min-max", "volume-min-max"
]  # fmt: skip
BASELINE = "untrained"  #: method of a ``[[baseline]]`` that names none


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RunSection(Section):
    """``[run]``: what the run is called and how often it is repeated."""

    name: str = Field(pattern=ID, description="results are written to runs/<name>/ in the current folder, or to `out`")
    seed: int = Field(42, ge=0, lt=2**32, description="first seed")
    seeds: PositiveInt = Field(1, description="repeats of the whole run, with seed, seed + 1, ...")
    curve: bool = Field(False, description="also write how many slices each threshold of each arm would keep")
    out: WrittenPath | None = Field(None, description="folder of the run, instead of runs/<name>")


class ComputeSection(Section):
    """``[compute]``: where the work happens."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="cuda if torch can use it, else cpu")
    devices: PositiveInt = Field(1, description="GPUs that share each pre-training; on the CPU: processes")
    workers: Literal["auto"] | PositiveInt = Field("auto", description="worker processes; auto: one per usable core")
    backend: Literal["processes", "dask"] = Field("processes", description="processes here, or a Dask cluster")
    scheduler: str | None = Field(None, description='address of the Dask scheduler, "tcp://host:8786"')
    time_limit: PositiveFloat = Field(300.0, description="seconds until a slow or stopped process is ended")

    @model_validator(mode="after")
    def _scheduler_needs_dask(self) -> ComputeSection:
        if self.scheduler is not None and self.backend != "dask":
            raise ValueError('scheduler needs backend = "dask"')
        return self


class ReportSection(Section):
    """``[report]``: what the page shows."""

    images: bool = Field(True, description="show images of slices")
    margin: PositiveFloat | None = Field(None, description="largest loss of score that counts as equally good")


class Window(Section):
    """A range of Hounsfield units that fills the grey scale."""

    centre: float = Field(description="centre of the window, HU")
    width: PositiveFloat = Field(description="width of the window, HU")


class Rendering(Section):
    """How the slice store shows a slice to training."""

    intensity: Intensity | Window = Field(
        "hu-window", description="grey scale: a name, or { centre = ..., width = ... } in HU"
    )
    size: int = Field(256, ge=16, le=1024, description="side of a stored slice, pixels")

    @property
    def levels(self) -> str | tuple[float, float]:
        """The rendering by name, or a window's centre and width in HU."""
        return self.intensity if isinstance(self.intensity, str) else (self.intensity.centre, self.intensity.width)


class Keep(Section):
    """A budget: the share or the number of the data set's slices to keep, or as many as another arm."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})
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

    id: str | None = Field(None, pattern=ID, description="name of the arm; none: from its reducer and values")
    keep: Keep | None = Field(None, description="budget: { share = ... }, { count = ... } or { like = ARM }")


class StepKeys(Section):
    """The keys of a step that are the core's."""

    scope: Scope | None = Field(None, description="group of slices for one decision; none: the default of the reducer")


class ReduceKeys(ArmKeys, StepKeys):
    """The keys of ``[[reduce]]`` that are the core's, where it has one step."""


class TaskKeys(Section):
    """The keys of ``[[task]]`` that are the core's."""

    id: str | None = Field(None, pattern=ID, description="name in results; none: the task's name")
    protocol: Any = Field("linear", description='how to score it: a name, { use = "linear", ... }, or a list of these')
    repeats: PositiveInt = Field(1, description="repeats of the evaluation of each backbone")
    labels: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, description="shares of the training labels to use"
    )
    monitor: bool = Field(
        False, description="log k-NN accuracy on its training images during pre-training; that changes no backbone"
    )


class PretrainKeys(Section):
    """The keys of ``[[pretrain]]`` and ``[[baseline]]`` that are the core's."""

    id: str | None = Field(None, pattern=ID, description="name in results; none: the method's name")


class PluginsSection(Section):
    """``[plugins]``: which of those installed a run is to have."""

    disable: tuple[str, ...] = Field((), description="plugins, entry points or distributions to leave out")
    require: tuple[str, ...] = Field((), description='versions to have, such as "ctkit-barlow-twins>=1.2"')


class PipelineFile(Section):
    """The tables of a pipeline file. Those that name a plugin are checked one by one, as ``TABLES`` says."""

    run: RunSection = Field(description="add [run] with a name")
    compute: ComputeSection = ComputeSection()
    dataset: dict[str, Any] = Field(description='add [dataset], for instance with use = "phantom"')
    reduce: list[dict[str, Any]] = Field(min_length=1, description='add [[reduce]], for instance with use = "all"')
    pretrain: list[dict[str, Any]] = []
    baseline: list[dict[str, Any]] = []
    task: list[dict[str, Any]] = []
    track: list[dict[str, Any]] = []
    plugins: PluginsSection = PluginsSection()
    report: ReportSection = ReportSection()


@dataclass(frozen=True)
class PluginTable:
    """A table that names a plugin, whose parameters stand in it beside keys of the core's."""

    kind: Kind
    keys: type[Section]
    use: str | None = None  #: the plugin where it names none

    @cache  # noqa: B019  # tables and entries are few and live as long as the program
    def model(self, entry: Entry) -> type[BaseModel]:
        """Return the model of a table with a plugin, but for what the plugin's own validators say.

        Those expect an instance of its parameters, not one that has keys of the core's as well. Raises ``PluginError``
        where the plugin is not usable.
        """
        params = entry.load().params_type
        if taken := sorted(core_keys(entry.kind) & params.model_fields.keys()):
            raise PluginError(f"{entry.title} has a parameter {taken[0]!r}, but this key is reserved for ctkit")
        qualified = f"{entry.distribution}:{entry.name}"
        names: Any = (
            str if entry.source else Literal[(qualified,) if entry.status == "clash" else (entry.name, qualified)]
        )
        use: Any = Field(self.use if self.use == entry.name else ..., description=entry.summary)
        fields: Any = {name: (field.annotation, field) for name, field in params.model_fields.items()}
        return create_model(f"{self.kind}.{entry.name}", __base__=self.keys, use=(names, use), **fields)


TABLES = {
    "dataset": PluginTable("dataset", Rendering),
    "reduce": PluginTable("reducer", ReduceKeys),
    "steps": PluginTable("reducer", StepKeys),  # of [[reduce]]
    "pretrain": PluginTable("method", PretrainKeys),
    "baseline": PluginTable("method", PretrainKeys, use=BASELINE),
    "task": PluginTable("task", TaskKeys),
    "protocol": PluginTable("protocol", Section),  # of [[task]]
    "track": PluginTable("tracker", Section),
}


def core_keys(kind: str) -> set[str]:
    """Keys that the core keeps for itself beside the parameters of a kind of plugin."""
    own = (table.keys.model_fields for table in TABLES.values() if table.kind == kind)
    return {"use"}.union({"steps"} if kind == "reducer" else (), *own)
