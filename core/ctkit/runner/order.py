"""A whole run: the stages in the order of the data's way, each result made once."""

from __future__ import annotations

import heapq
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ctkit import stopping
from ctkit.compute import Jobs
from ctkit.console import Console, count, percent
from ctkit.errors import CtkitError, RequestError
from ctkit.hookspecs import STAGES, Stage
from ctkit.pipeline_file import Pipeline
from ctkit.plugins import Registry
from ctkit.runner.checks import check_start
from ctkit.runner.trackers import following
from ctkit.session import EVERYTHING, Only, Session, open_session
from ctkit.session.usage import used_by
from ctkit.stages import compare as comparing
from ctkit.stages import curve, mistakes, pictures
from ctkit.stages import evaluate as evaluation
from ctkit.stages import pretrain as pretraining
from ctkit.stages import scan as scanning
from ctkit.stages import select as selecting
from ctkit.stages.data import Data
from ctkit.stages.describe import describe
from ctkit.stages.materialise import materialise
from ctkit.stages.narrowing import narrowed, widened, without_failed
from ctkit.stages.selected import keys
from ctkit.storage import Outline, RunFolder
from ctkit.storage.records import SkippedRow, VolumeRow, write_rows


def run(
    pipeline: Pipeline,
    registry: Registry,
    console: Console,
    until: Stage = "report",
    only: Only = EVERYTHING,
    jobs: Jobs = 1,
    anew: Sequence[str] = (),
) -> RunFolder:
    """Run a pipeline, or ``only`` parts of it, up to and with the stage ``until``; what is there is not made again.

    Nothing that is cached of the plugins called ``anew`` is found.

    ``jobs`` backbones are trained or evaluated at once, each on devices of its own, on which evidence is made as well.
    Raises a ``RequestError`` before anything is started, another ``CtkitError`` where the run cannot go on. An arm that
    fails at any stage from describe on is noted in ``run.json`` and the others go on.
    """
    folder = run_folder(pipeline)
    session = replace(open_session(pipeline, registry, console, folder, jobs, anew=anew), only=only)
    check_start(session, until)
    with folder.locked(), console.log_to(folder.log):
        session.code.learn(session.cache)
        session = replace(session, provenance=replace(session.provenance))  # what another run wrote meanwhile counts
        pools = session.workers, session.device_pool
        held = used_by(session.cache, folder.path)
        with stopping.patient(), held, pools[0], pools[1], following(session), _told(session):
            _stages(session, STAGES[: STAGES.index(until) + 1])
    return folder


def run_folder(pipeline: Pipeline) -> RunFolder:
    """Where a pipeline's results go."""
    return RunFolder((pipeline.run.out or Path("runs") / pipeline.run.name).expanduser().absolute())


@contextmanager
def _told(session: Session) -> Iterator[None]:
    """Keep ``run.json`` and the lifecycle hooks true, however the run ends."""
    if session.provenance.report_changes:  # above all where it is to show no pixels any more
        session.folder.report.unlink(missing_ok=True)
    session.provenance.write()
    session.registry.notify("ctkit_run_started", run=session.info)
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        session.provenance.state = "interrupted" if interrupted else "failed"
        session.provenance.error = None if interrupted else f"{type(error).__name__}: {error}"
        session.provenance.write(finished=True)
        session.registry.notify("ctkit_run_failed", run=session.info, error=error)
        if isinstance(error, RequestError):  # its exit code says that nothing was started
            raise CtkitError(str(error)) from error
        raise
    session.provenance.write(finished=True)
    session.registry.notify("ctkit_run_finished", run=session.info)


def _stages(session: Session, wanted: Sequence[Stage]) -> None:
    data = scanning.scan(session)
    session.provenance.fingerprint = data.address
    _say_scanned(session, data)
    session = narrowed(session)
    if "describe" not in wanted:
        return _stopped(session, "scan")
    data = describe(session, data)
    _write_volumes(session, data)
    _say_read(session, data)
    if "select" not in wanted:
        return _stopped(session, "describe")
    data = selecting.numbered(data)
    session = widened(without_failed(session), data)
    session.folder.keep_only(_expected_files(session))
    data = selecting.select(session, data)
    session = without_failed(session)
    _say_selected(session, data)
    data = pretraining.plan_jobs(session, data)
    data = evaluation.plan_evaluations(session, data)
    pretraining.forget_others(session, data)
    evaluation.forget_others(session, data)
    if "materialise" not in wanted:
        return _stopped(session, "select")
    if not session.pipeline.pretrains and not session.pipeline.baselines:
        return _report(session, data)
    if "pretrain" not in wanted:
        wanted_selections = [one for one in data.selections.values() if session.only.wants(arm=one.arm.id)]
        materialise(session, data, [one.selection for one in wanted_selections])
        return _stopped(session, "materialise")
    data = pretraining.found_before(session, data)
    if missing := pretraining.missing(session, data):
        data = materialise(session, data, [job.selected.selection for job in missing])
    data = pretraining.pretrain(session, data)
    if "evaluate" not in wanted:
        return _stopped(session, "pretrain")
    data = evaluation.evaluate(session, data)
    if session.only:
        whole = outline(session.pipeline)
        trainings = len(whole.trainings) + len(whole.baselines)
        if (len(data.backbones), len(data.predictions)) != (trainings, trainings * len(whole.evaluations)):
            session.provenance.state = f"done for {session.only}"
    comparing.score(session, data)
    comparing.compare(session, data)
    if "report" in wanted and data.predictions and session.pipeline.report.images:
        with session.going_on("pictures", "mistakes"):  # that they fail is no reason to have no report
            mistakes.draw(session, data)
    if "report" not in wanted:
        return _stopped(session, "evaluate")
    return _report(session, data)


def _stopped(session: Session, stage: Stage) -> None:
    session.provenance.state = f"stopped at {stage}"
    session.provenance.stopped_at = stage


def _report(session: Session, data: Data) -> None:
    curve.write_curves(session, data)
    if session.pipeline.report.images:
        with session.going_on("pictures", "slices"):
            pictures.draw(session, data)
    if session.provenance.failures:
        session.provenance.state = "failed in part"
    elif session.provenance.state == "running":
        session.provenance.state = "done"
    page = session.folder.report
    if session.provenance.as_before and page.exists():
        return
    earlier = page.stat() if page.exists() else None
    if session.registry.manager.hook.ctkit_run_outputs.get_hookimpls():
        with session.work("report"):
            session.provenance.write(finished=True)  # the page says when
            session.registry.call("ctkit_run_outputs", run=session.info)
    if earlier is not None and os.path.samestat(earlier, page.stat()):  # nobody rewrote it, so it is true no more
        page.unlink()


# --- what the run folder says of the data -------------------------------------------------------------------------


def _write_volumes(session: Session, data: Data) -> None:
    """Write ``volumes.csv`` and ``skipped.csv``."""
    unreadable: list[SkippedRow] = []
    rows = []
    for volume, reading in zip(data.catalogue, data.readings, strict=True):
        unreadable += [SkippedRow(volume.source(number), reason) for number, reason in reading.skipped]
        digests = session.cache.pseudonym(volume.key), session.cache.pseudonym(volume.patient)
        x, y, z, thick = (math.nan if value is None else value for value in (*volume.spacing, volume.thickness))
        same = (f"same scan as volume {session.cache.pseudonym(volume.same_scan)}",) if volume.same_scan else ()
        unit = () if reading.unit == "HU" else ("values are not in Hounsfield units",)
        sizes, notes = (len(reading.index), volume.rows, volume.columns), (*volume.notes, *unit, *reading.notes, *same)
        rows.append(VolumeRow(*digests, *sizes, x, y, z, volume.kernel, thick, notes))
    write_rows(session.folder.volumes, VolumeRow, rows)
    skipped = heapq.merge((SkippedRow(skip.source, skip.reason) for skip in data.skipped), sorted(unreadable))
    write_rows(session.folder.skipped, SkippedRow, (row for row, _ in itertools.groupby(skipped)))


def outline(pipeline: Pipeline) -> Outline:
    """What a pipeline asks for, as its run folder shows it."""
    arms, methods = [arm.id for arm in pipeline.arms], [plan.id for plan in pipeline.pretrains]
    return Outline(
        selections=keys(pipeline.arms, pipeline.seeds),
        trainings=list(itertools.product(arms, methods, pipeline.seeds)),
        baselines=[(plan.id, seed) for plan in pipeline.baselines for seed in pretraining.seeds_of(plan, pipeline)],
        evaluations=[
            (task.id, task.protocol.entry.name, repeat, labels)
            for task in pipeline.tasks
            for repeat, labels in itertools.product(range(task.repeats), task.labels)
        ],
        images=pipeline.report.images,
    )


def _expected_files(session: Session) -> set[Path]:
    """Every file that this version of the pipeline leaves for its arms, and the tables of results where it has any."""
    expected = session.folder.files(outline(session.pipeline))
    if session.provenance.report_changes:  # an explanation may show pixels
        expected -= {session.folder.arm(arm.id).explanation for arm in session.pipeline.arms}
    return expected


def _say_scanned(session: Session, data: Data) -> None:
    counts = data.catalogue.counts
    patients = len(set(data.catalogue.patients.tolist()))
    session.console.say(
        f"{count(len(counts), 'volume')} of {count(patients, 'patient')}, {count(counts.sum(), 'slice')}"
        + (f"; {count(len(data.skipped), 'file')} skipped, see skipped.csv" if data.skipped else "")
    )
    if repeated := data.catalogue.repeated:
        session.console.say(f"{count(repeated, 'volume')} of the same scan as another volume, see volumes.csv")


def _say_read(session: Session, data: Data) -> None:
    """The scan's number of slices is what headers promise."""
    unread = [len(reading.skipped) for reading in data.readings if reading.skipped]
    if unread:
        session.console.say(
            f"{count(sum(unread), 'slice')} of {count(len(unread), 'volume')} cannot be read, see skipped.csv"
        )
    if others := sum(reading.unit != "HU" for reading in data.readings):
        session.console.say(f"{count(others, 'volume')} without Hounsfield units: not windowed, see volumes.csv")


def _say_selected(session: Session, data: Data) -> None:
    slices = len(data.table)
    for (arm, seed), selected in data.selections.items():
        kept = int(selected.selection.kept.sum())
        name = arm if seed is None else f"{arm} (seed {seed})"
        asked = f", requested {selected.asked}" if selected.asked not in (None, kept) else ""
        session.console.say(f"{name}: keeps {kept} of {slices} slices ({percent(kept / slices)}){asked}")
