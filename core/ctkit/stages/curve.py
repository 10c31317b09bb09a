"""Curve: how many slices an arm would keep at each value of its knob, from its evidence alone."""

from __future__ import annotations

from pathlib import Path

from ctkit.errors import RequestError
from ctkit.pipeline_file import Arm
from ctkit.session import Session
from ctkit.slices import Table, selection
from ctkit.stages.data import Data
from ctkit.stages.evidence import Evidence
from ctkit.storage import ArmFolder, address, place
from ctkit.storage.records import CurveRow, write_rows

UNASKED = 250_000  #: slices; the 65 selections of a 64-bit hash then take about a minute, once


def write_curves(session: Session, data: Data) -> None:
    """Put ``curve.csv`` into the folders of the wanted arms: of all with a knob if asked for, else of the cheap."""
    evidence = Evidence(session, data)
    for arm in session.arms:
        asked = session.pipeline.run.curve and arm.steps[-1].reducer.build().knob is not None
        if session.only.wants(arm=arm.id) and (asked or is_cheap(data.table, arm)):  # of others evidence may be gone
            write_curve(session, evidence, data.table, arm)


def is_cheap(table: Table, arm: Arm) -> bool:
    """Whether a run makes the curve unasked: few values of the knob, small groups, and evidence in memory anyway."""
    if len(arm.steps) > 1 or arm.steps[0].scope == "dataset" or len(table) > UNASKED:
        return False
    reducer = arm.steps[0].reducer.build()
    return reducer.evidence == "slice" and reducer.knob is not None and reducer.knob.integer


def write_curve(session: Session, evidence: Evidence, table: Table, arm: Arm) -> None:
    """Put ``curve.csv`` into an arm's folder: slices kept, and their share, at values of the last step's knob.

    An arm that draws draws with the run's first seed. Raises ``RequestError`` where the last step has no knob.
    """
    if arm.steps[-1].reducer.build().knob is None:
        raise RequestError(f"arm {arm.id!r} has no curve: {arm.steps[-1].reducer.entry.name} has no knob")
    seed = session.pipeline.run.seed
    *earlier, last = evidence.identities(arm)
    steps = [*earlier, last | {"at": None}]
    at = address("curve", version=selection.VERSION, steps=steps, seed=seed if arm.draws else None)
    shown = session.folder.arm(arm.id).curve

    def write(curve: Path) -> None:
        kept = selection.curve(table, evidence.choices(arm, any_knob=True), seed)
        write_rows(curve, CurveRow, (CurveRow(at, count, count / len(table)) for at, count in kept.items()))

    if not session.cache.holds("curve", at):
        if session.cache.looking:
            return write(shown)
        with session.work("curve", arm.id), session.cache.entry("curve", at) as folder:
            write(ArmFolder(folder).curve)
    return place(ArmFolder(session.cache.path("curve", at)).curve, shown)
