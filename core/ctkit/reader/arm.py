"""An arm of a run opened again with its slices, as it was chosen: from the cache, and from the data where asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ctkit import compute, pipeline_file, plugins
from ctkit.console import Console, count
from ctkit.contracts import Dataset, Floats, Group, Ints, Knob, Rows, Volume, VolumeFacts
from ctkit.errors import RequestError, nearest
from ctkit.pipeline_file import Arm, Chosen, Pipeline
from ctkit.session import Session, open_session
from ctkit.session.code import digest_of
from ctkit.session.usage import used_by
from ctkit.slices import Catalogue, Choice, Selection, selection
from ctkit.stages import curve, pictures
from ctkit.stages import describe as describing
from ctkit.stages import materialise as storing
from ctkit.stages import scan as scanning
from ctkit.stages import select as selecting
from ctkit.stages.data import Data
from ctkit.stages.evidence import Evidence
from ctkit.stages.narrowing import of_one_arm
from ctkit.stages.selected import Selected
from ctkit.storage import ArmFolder, RunFolder, read_provenance
from ctkit.storage.records import CurveRow, read_rows

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def revisit(run: Path, arm: str, console: Console, *, looking: bool = True) -> Iterator[RevisitedArm]:
    """Open an arm of the run folder ``run`` and hold the folder; ``run.json`` stays as it is. See ``Run.revisit``."""
    registry = plugins.load()
    document = read_provenance(run)["pipeline"]
    document["run"]["out"] = str(run.absolute())
    document |= {"track": [], "plugins": {}}  # who followed the run need not be here either
    document["compute"]["device"] = "cpu"  # nothing is computed again, so the GPU of the run need not be here
    resolved = pipeline_file.resolve(document, registry, run, f"{run}/run.json")
    _refuse_other_code(run, resolved)
    arms = {one.id: one for one in resolved.arms}
    if arm not in arms:
        raise RequestError(f"{run} has no arm {arm!r}; {nearest(arm, arms)}")
    folder = RunFolder(run.absolute())
    session = open_session(resolved, registry, console, folder, looking=looking)
    with folder.locked(), used_by(session.cache, folder.path), session.workers:
        yield _opened(session, arms[arm])


def _refuse_other_code(run: Path, pipeline: Pipeline) -> None:
    """Raise ``RequestError`` where a plugin's file is not what it was when the run used it."""
    facts = read_provenance(run).get("plugins", [])
    for entry in (one.entry for one in pipeline.plugins):
        mine = entry.kind, entry.name, entry.distribution
        then = [fact for fact in facts if (fact["kind"], fact["name"], fact["distribution"]) == mine]
        if entry.source and then and digest_of(entry) not in [fact.get("code") for fact in then]:
            raise RequestError(
                f"{entry.file} has changed since the run in {run}, whose results are of {then[0]['version']};"
                " undo the change, or run it again"
            )


class RevisitedArm:
    """One arm of a run and the ``n`` readable slices it chose from; of an arm that draws, the first selection.

    Slices are numbered through the data set, 0 to ``n - 1``; volumes as ``volumes`` has them.
    """

    def __init__(self, session: Session, data: Data, arm: Arm, selected: Selected) -> None:
        self._session, self._data, self._arm, self._selected = session, data, arm, selected
        self._evidence, self._chosen = Evidence(session, data), session.pipeline.dataset
        look, last = session.pipeline.rendering, arm.steps[-1].reducer
        # the arm
        self.name = arm.id  #: in the pipeline file
        self.folder: ArmFolder = session.folder.arm(arm.id)  #: in the run
        self.address = selected.address  #: what tells its selection from all others, 64 hex digits
        self.reducer = last.entry.name  #: of its last step
        self.knob: Knob | None = last.build().knob  #: of its last step
        self.scope = arm.steps[-1].scope  #: of its last step
        #: What is kept (n,), which slice stands for a dropped one ``by`` (n,), its ``distance`` (n,), and ``at``.
        self.selection: Selection = selected.selection
        self.shows_images = session.pipeline.report.images  #: whether the pipeline lets pixels be shown
        # slices and volumes
        self.volume: Ints = data.table.volume  #: (n,) volume of each slice
        self.index: Ints = data.table.index  #: (n,) number of each slice in its volume
        self.volumes: Catalogue = data.catalogue  #: to be counted, looped over, or taken by their number
        # the data
        self.dataset: Dataset[Any] = self._chosen.build()  #: the data set's plugin, which reads volumes
        self.dataset_name = self._chosen.entry.name  #: of that plugin
        #: The run's training rendering, as ``ctkit.rendering`` takes it, and as the pipeline file says it, as JSON.
        self.levels: str | tuple[float, float] = look.levels
        self.intensity: Any = look.model_dump(mode="json")["intensity"]

    def slices_of(self, volume: int) -> Ints:
        """Numbers of a volume's slices, ascending."""
        return np.arange(*np.searchsorted(self.volume, [volume, volume + 1]))

    def pseudonym(self, volume: int) -> str:
        """Digest that stands for a volume, as in ``selection.csv``."""
        return self._session.cache.pseudonym(self.volumes[volume].key)

    def span(self, volume: int) -> tuple[float, float]:
        """Lowest and highest value of a volume's readable slices."""
        return self._data.readings[volume].span

    # --- the choice

    @property
    def choice(self) -> Choice:
        """The last step, ready to choose."""
        return self._evidence.choices(self._arm)[-1]

    def select_at(self, at: float) -> Selection:
        """What the arm would keep with another value of its last step's knob.

        Where its knob was fixed, pairs that were not compared count as different: see ``Reducer.describes_at``.
        """
        *earlier, last = self._evidence.choices(self._arm)
        return selection.select(self._data.table, [*earlier, replace(last, at=at)], self._seed)

    def groups(self) -> Iterator[tuple[Ints, Group]]:
        """What the last step decides on, group by group: slices (m,) in its order, and their evidence."""
        return selection.last_groups(self._data.table, self._evidence.choices(self._arm), self._seed)

    @property
    def _seed(self) -> int:
        return self._session.pipeline.run.seed if self._selected.seed is None else self._selected.seed

    def to_previous(self, slices: Ints) -> Floats:
        """Distance (m,) of each of ``slices`` (m,), all of one volume, to the one before; NaN where there is none.

        The reducer of the last step says it itself, asked to choose of the two with the largest threshold there is.
        """
        last, knob = self.choice, self.knob
        found = np.full(len(slices), np.nan)
        if knob is None or last.reducer.evidence == "none":
            return found
        for place in range(1, len(slices)):
            two = slices[place - 1 : place + 1]
            group = Group(self.volume[two], self.index[two], last.evidence(two))
            decision = last.reducer.select(group, knob.high, np.random.default_rng(0))
            if decision.distance is not None:
                found[place] = decision.distance[1]
        return found

    def write_curve(self) -> list[CurveRow]:
        """Write ``curve.csv``, how many slices each value of the knob would keep, and return what it says.

        Raises ``RequestError`` where the arm has no knob.
        """
        curve.write_curve(self._session, self._evidence, self._data.table, self._arm)
        return list(read_rows(self.folder.curve, CurveRow))

    # --- the data

    def store(self) -> tuple[Rows, tuple[str, ...]]:
        """Where the ``m`` kept slices lie in the slice store, and their sources (m,); stores what is not there."""
        chosen, size = self.selection, self._session.pipeline.rendering.size
        data = storing.materialise(self._session, self._data, [chosen], noted=False)
        kept = np.flatnonzero(chosen.kept).tolist()
        sources = tuple(self.volumes[int(self.volume[n])].source(int(self.index[n])) for n in kept)
        return storing.rows_of(data.table, chosen, data.shards, size), sources

    def images(self, slices: Ints) -> dict[int, NDArray[np.uint8]]:
        """Pictures (side, side) of slices in the training rendering, by number, of those that can still be read."""
        return pictures.images_of(self._session, self._data, slices)

    def facts(self) -> dict[int, VolumeFacts]:
        """What the source says of each volume, by its number; decoded again, in worker processes."""
        named = self.each_volume("facts", _facts, enumerate(self.volumes), total=len(self.volumes))
        return {number: found for (number, _), found in named if found is not None}

    def each_volume(
        self,
        title: str,
        work: Callable[[Dataset[Any], Item], Result],
        items: Iterable[Item],
        *,
        total: int,
        name: Callable[[Item], str] = str,
    ) -> Iterator[tuple[Item, Result | None]]:
        """Do ``work(dataset, item)`` in worker processes; give each item with what came of it, as they are done.

        ``title`` and ``total`` are for the progress, ``name`` tells items apart. None came of an item whose worker was
        lost: by a crash, the memory running out, or time.
        """
        bound = partial(_with_dataset, self._chosen, work)
        for outcome in self._session.parallel(title, bound, items, total=total, name=name):
            yield outcome.item, outcome.result if isinstance(outcome, compute.Done) else None


def _with_dataset(chosen: Chosen[Dataset[Any]], work: Callable[[Dataset[Any], Item], Result], item: Item) -> Result:
    return work(chosen.build(), item)


def _facts(dataset: Dataset[Any], item: tuple[int, Volume]) -> VolumeFacts:
    return dataset.facts(item[1])


def _opened(session: Session, arm: Arm) -> RevisitedArm:
    """Find what is cached of one arm, whatever others lack. Raises ``RequestError`` saying what is missing."""
    session = of_one_arm(session, arm.id)
    _, data = scanning.found_before(session)
    if data is None:
        raise _missing(session, arm, "the source files have changed since the scan, or the scan is not in the cache")
    reducers = describing.described_reducers(session, data.catalogue)
    if lacking := describing.missing(session, data.catalogue, reducers):
        many = f"{count(len(lacking), 'volume')} of {len(data.catalogue)}"
        raise _missing(session, arm, f"{many} not described for it in the cache")
    data = selecting.found_before(session, data)
    chosen = next((selected for (name, _), selected in data.selections.items() if name == arm.id), None)
    if chosen is None:
        raise _missing(session, arm, "its selection is not in the cache")
    return RevisitedArm(session, data, arm, chosen)


def _missing(session: Session, arm: Arm, what: str) -> RequestError:
    return RequestError(
        f"arm {arm.id!r} of {session.folder.path} cannot be opened: {what}; run it again, or set CTKIT_CACHE to"
        f" its cache (now {session.cache.folder}); `ctkit run` with --only arm={arm.id} runs this arm only"
    )
