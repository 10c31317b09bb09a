"""A run opened again, for what is asked of it afterwards: its volumes, table and selections, from the cache alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from ctkit.stages.evidence import Evidence
from ctkit.stages.readings import read_readings
from ctkit.stages.select import Selected
from ctkit.storage import RunFolder, read_provenance


@dataclass(frozen=True)
class Revisited:
    """One arm of a run, as it was chosen; of an arm that draws, the first selection."""

    session: Session
    catalogue: Catalogue
    table: Table
    evidence: Evidence  #: what the arm chose by
    arm: Arm
    selected: Selected

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
    _, scan = scanning.found_before(session)
    reducers = describing.described_reducers(session)
    if scan is None or any(
        describing.is_missing(session.cache, scan.catalogue.address(number), reducers)
        for number in range(len(scan.catalogue))
    ):
        raise _changed(session)
    readings = read_readings(session.cache, scan.catalogue)
    table = selecting.make_table(scan.catalogue, readings)
    selections = selecting.chosen_before(session, scan.catalogue, readings, table)
    chosen = next((selected for (name, _), selected in selections.items() if name == arm.id), None)
    if chosen is None:
        raise _changed(session)
    evidence = Evidence(session, scan.catalogue, readings, table)
    return Revisited(session, scan.catalogue, table, evidence, arm, chosen)


def _changed(session: Session) -> RequestError:
    run = session.folder.path
    return RequestError(
        f"the data of {run} or the cache in {session.cache.folder} are not what they were, or the run was not finished:"
        " run it again, or say in CTKIT_CACHE where its cache is"
    )
