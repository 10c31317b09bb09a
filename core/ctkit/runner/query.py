"""Which slices of new scans are near-duplicates of what a run kept. Of the run only its cache is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctkit import pipeline_file, plugins, stopping
from ctkit.console import Console
from ctkit.contracts import Floats, Group, Ints
from ctkit.contracts.judge import Judge
from ctkit.errors import CtkitError, RequestError, StorageError
from ctkit.pipeline_file import Pipeline
from ctkit.promises import check_decision
from ctkit.reader import Run, frame, open_run
from ctkit.reader.arm import RevisitedArm
from ctkit.runner import pipeline_text
from ctkit.runner.checks import check_start
from ctkit.runner.order import run_folder
from ctkit.session import open_session
from ctkit.slices import Choice
from ctkit.stages import scan as scanning
from ctkit.stages import select as selecting
from ctkit.stages.data import Data
from ctkit.stages.describe import describe
from ctkit.stages.evidence import Evidence
from ctkit.storage.records import write_rows

if TYPE_CHECKING:
    from pandas import DataFrame


class QueryRow(NamedTuple):
    """A slice of the new scans, or a file that was left out."""

    source: str  #: below the folder of the new scans
    index: int | None  # type: ignore[assignment]  #: number in its volume  # tuples have a method of that name
    duplicate: bool  #: the nearest kept slice is not farther than the arm's threshold
    kept_source: str  #: of the nearest slice that the run keeps, below the root of its data set
    kept_volume: str  #: digest, as in ``selection.csv``
    kept_index: int | None  #: number of that slice in its volume
    distance: float  #: to it, in the reducer's unit
    reason: str  #: why the file or slice was left out, "" where it was compared


@dataclass(frozen=True)
class Query:
    """What came of comparing new scans with what an arm keeps."""

    arm: str
    threshold: float  #: largest distance of near-duplicates, as the arm was chosen
    unit: str
    rows: tuple[QueryRow, ...]

    @property
    def compared(self) -> int:
        """Slices that could be read."""
        return sum(not row.reason for row in self.rows)

    @property
    def duplicates(self) -> int:
        """Those of them that are near-duplicates of a kept slice."""
        return sum(row.duplicate for row in self.rows)

    def frame(self) -> DataFrame:
        """The rows as a table of pandas."""
        return frame(self.rows, QueryRow)

    def write(self, path: Path) -> None:
        """Write the rows as CSV."""
        write_rows(path, QueryRow, self.rows)


def query(
    run: str | Path | Run,
    folder: str | Path | None = None,
    *,
    arm: str | None = None,
    dataset: str | None = None,
    dataset_parameters: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Query:
    """Compare each slice of the scans in ``folder`` with all slices that an arm of a run keeps.

    Only the new scans are read, by the data set of the run, or by ``dataset`` with its parameters; what is described
    of them stays in the cache of the run. The arm may be left out where the run has one. Its last reducer must compare
    slices one by one, as ``hash``, ``embedding`` and ``k-center`` do: ``RequestError`` for others, such as ``ssim``,
    which compares pixels of two slices, and for what ``Run.revisit`` raises it for. Files that cannot be read are rows
    with a reason::

        found = ctkit.query("runs/study", "new-scans", arm="hash6")
        print(f"{found.duplicates} of {found.compared} slices are near-duplicates")
        new = found.frame().query("not duplicate and reason == ''")
    """
    console, opened = console or Console(quiet=True), run if isinstance(run, Run) else open_run(run)
    names = [one.name for one in opened.arms]
    if arm is None and len(names) != 1:
        raise RequestError(f"{opened.path} has {len(names)} arms, so name one: {', '.join(names)}")
    with opened.revisit(arm or names[0], console) as kept:
        choice = kept.choice
        if choice.reducer.evidence != "slice" or kept.knob is None:
            why = {"pair": "compares the pixels of two slices", "none": "looks at no pixels"}
            reason = why.get(choice.reducer.evidence, "has no threshold")
            raise RequestError(
                f"arm {kept.name!r} cannot be queried: {kept.reducer} {reason}; take an arm whose last reducer compares"
                " slices by a row of evidence each, such as hash, embedding or k-center"
            )
        if not kept.selection.kept.any():
            raise RequestError(
                f"arm {kept.name!r} keeps no slice, so there is nothing to compare with; take another arm"
            )
        pipeline = _pipeline(kept, opened.pipeline, folder, dataset, pipeline_text.plain(dataset_parameters or {}))
        with _folder_beside(opened.path) as temporary:
            data, evidence = _described(pipeline, Path(temporary), console)
        numbers = np.flatnonzero(kept.selection.kept)
        nearest_kept, distance = _nearest(choice, evidence, choice.evidence(numbers), console)
        rows = _rows(kept, data, numbers[nearest_kept], distance)
        return Query(kept.name, kept.selection.at[-1], kept.knob.unit, tuple(rows))


def _folder_beside(run: Path) -> TemporaryDirectory[str]:
    """A folder with the same cache as the run. Raises ``StorageError`` where there can be none."""
    try:
        return TemporaryDirectory(prefix=".query-", dir=run.absolute().parent)
    except OSError as error:
        raise StorageError(f"cannot write {run.absolute().parent}: {error.strerror}") from error


def _pipeline(
    kept: RevisitedArm,
    document: Mapping[str, Any],
    folder: str | Path | None,
    dataset: str | None,
    parameters: Mapping[str, Any],
) -> Pipeline:
    """The run's pipeline for new scans, as far as describing them for the last step of one arm."""
    reduce = next(one for one in document["reduce"] if one["id"] == kept.name)
    source = dict(document["dataset"])
    if dataset:
        source = {"use": dataset} | {key: source[key] for key in ("intensity", "size")}
    if folder is not None:
        source["root"] = str(Path(folder).expanduser().absolute())
    elif not dataset:
        raise RequestError("there is nothing to query: give the folder of the new scans")
    budget = None if reduce["keep"] is None else {"share": 1.0}  # in whose place the knob would have to be given
    changed = {
        **document,
        "compute": document["compute"] | {"device": "auto"},
        "dataset": source | dict(parameters),
        "reduce": [{"id": kept.name, "steps": reduce["steps"][-1:], "keep": budget}],
        **{name: [] for name in ("pretrain", "baseline", "task", "track")},
        "plugins": {},
    }
    return pipeline_file.resolve(changed, plugins.load(), Path.cwd(), "ctkit query")


def _described(pipeline: Pipeline, folder: Path, console: Console) -> tuple[Data, NDArray[Any]]:
    """Scan and describe, in a run folder of its own beside the run, and so with the same cache; evidence (n, ...)."""
    pipeline = replace(pipeline, run=pipeline.run.model_copy(update={"out": folder}))
    session = open_session(pipeline, plugins.load(), console, run_folder(pipeline))
    check_start(session, "describe")
    with session.folder.locked(), stopping.patient(), session.workers, session.device_pool:
        data = describe(session, scanning.scan(session))
        if session.provenance.failures:
            raise CtkitError(session.provenance.failures[0]["reason"])
        data = selecting.numbered(data)
        evidence = Evidence(session, data).choices(pipeline.arms[0])[-1].evidence(np.arange(len(data.table)))
    assert evidence is not None
    return data, evidence


def _nearest(choice: Choice, new: NDArray[Any], kept: NDArray[Any] | None, console: Console) -> tuple[Ints, Floats]:
    """For each row of evidence (n, ...) the nearest of the kept ones (m, ...), and its distance.

    The reducer says it itself: asked to choose of one slice and those after it with the largest threshold, it keeps the
    first, which stands for all others. Raises ``RequestError`` where it does otherwise.
    """
    assert kept is not None
    assert choice.reducer.knob is not None
    others, number = np.concatenate([new[:1], kept]), np.arange(1 + len(kept))
    nearest_kept, distance = np.zeros(len(new), np.int64), np.full(len(new), np.nan)
    with console.progress("compare", len(new)) as bar:
        for place, one in enumerate(new):
            others[0] = one
            group = Group(np.zeros_like(number), number, others)
            with (judge := Judge(choice.name)).calling("select"):
                decision = choice.reducer.select(group, choice.reducer.knob.high, np.random.default_rng(0))
            check_decision(judge, decision, len(group))
            if decision.by is None or decision.distance is None or (decision.by[1:] > 0).any() or not decision.kept[0]:
                raise RequestError(
                    f"{choice.name} cannot be queried: with the largest threshold the first slice must stand for all"
                    " others, with its distance to each; take an arm of hash, embedding or k-center"
                )
            apart = np.where(decision.by[1:] == 0, decision.distance[1:], np.inf)  # rounding may leave one beyond
            nearest_kept[place] = apart.argmin()
            distance[place] = apart[nearest_kept[place]]
            bar.advance()
    return nearest_kept, distance


def _rows(kept: RevisitedArm, data: Data, stands: Ints, distance: Floats) -> Iterator[QueryRow]:
    threshold = kept.selection.at[-1]
    for volume, index, other, apart in zip(data.table.volume, data.table.index, stands, distance, strict=True):
        known = int(kept.volume[other])
        yield QueryRow(
            source=data.catalogue[int(volume)].source(int(index)),
            index=int(index),
            duplicate=bool(apart <= threshold),
            kept_source=kept.volumes[known].source(int(kept.index[other])),
            kept_volume=kept.pseudonym(known),
            kept_index=int(kept.index[other]),
            distance=float(apart),
            reason="",
        )
    for volume, reading in enumerate(data.readings):
        for number, reason in reading.skipped:
            yield _left_out(data.catalogue[volume].source(number), number, reason)
    for skip in data.skipped:
        yield _left_out(skip.source, None, skip.reason)


def _left_out(source: str, index: int | None, reason: str) -> QueryRow:
    return QueryRow(source, index, False, "", "", None, np.nan, reason)
