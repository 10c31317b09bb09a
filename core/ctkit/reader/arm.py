"""A run opened again, for what is asked of it afterwards: its volumes, table and selections, from the cache alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ctkit import pipeline_file
from ctkit.console import Console
from ctkit.errors import RequestError, nearest
from ctkit.pipeline_file import Arm
from ctkit.plugins import Registry
from ctkit.session import Session, open_session
from ctkit.slices import Catalogue, Table
from ctkit.stages import describe as describing
from ctkit.stages import scan as scanning
from ctkit.stages import select as selecting
from ctkit.stages.data import Data
from ctkit.stages.evidence import Evidence
from ctkit.stages.readings import read_readings
from ctkit.stages.selected import Selected
from ctkit.storage import RunFolder, read_provenance


@dataclass(frozen=True)
class Revisited:
    """One arm of a run, as it was chosen; of an arm that draws, the first selection."""

    session: Session
    data: Data
    evidence: Evidence  #: what the arm chose by
    arm: Arm
    selected: Selected

    @property
    def catalogue(self) -> Catalogue:
        """Every volume."""
        return self.data.catalogue

    @property
    def table(self) -> Table:
        """Every readable slice."""
        return self.data.table

    @property
    def folder(self) -> Path:
        """The arm's folder in the run."""
        return self.session.folder.arm(self.arm.id)


@contextmanager
def revisit(run: Path, arm: str, registry: Registry, console: Console) -> Iterator[Revisited]:
    """Open an arm of the run folder ``run`` and hold the folder; ``run.json`` stays as it is.

    Raises ``RequestError`` where there is no such run or arm, or where data or cache are not what they were.
    """
    document = read_provenance(run).get("pipeline")
    if document is None:
        raise RequestError(f"{run} is no run folder: it has no run.json")
    document["run"]["out"] = str(run.absolute())
    document["compute"]["device"] = "cpu"  # nothing is computed anew, so the GPU of the run need not be here
    resolved = pipeline_file.resolve(document, registry, run, lambda _: f"{run}/run.json")
    arms = {one.id: one for one in resolved.arms}
    if arm not in arms:
        raise RequestError(f"{run} has no arm {arm!r}; {nearest(arm, arms)}")
    folder = RunFolder(run.absolute())
    session = open_session(resolved, registry, console, folder)
    with folder.locked(), session.cache.used_by(folder.path), session.workers:
        yield _chosen(session, arms[arm])


def _chosen(session: Session, arm: Arm) -> Revisited:
    _, data = scanning.found_before(session)
    reducers = describing.described_reducers(session)
    if data is None or any(
        describing.is_missing(session.cache, data.catalogue.address(number), reducers)
        for number in range(len(data.catalogue))
    ):
        raise _changed(session)
    data = selecting.numbered(replace(data, readings=read_readings(session.cache, data.catalogue)))
    data = selecting.chosen_before(session, data)
    chosen = next((selected for (name, _), selected in data.selections.items() if name == arm.id), None)
    if chosen is None:
        raise _changed(session)
    return Revisited(session, data, Evidence(session, data), arm, chosen)


def _changed(session: Session) -> RequestError:
    run = session.folder.path
    return RequestError(
        f"the data of {run} or the cache in {session.cache.folder} are not what they were, or the run was not finished:"
        " run it again, or say in CTKIT_CACHE where its cache is"
    )
