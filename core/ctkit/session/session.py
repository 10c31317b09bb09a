"""What every stage of a run shares: the pipeline, the cache, the run folder, the workers, and who is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from ctkit import compute, stopping
from ctkit.compute import Coroutine, DevicePool, Jobs, Wait, devices
from ctkit.console import Console, redacted
from ctkit.errors import CtkitError, StorageError
from ctkit.hookspecs import RunInfo
from ctkit.pipeline_file import Arm, Pipeline
from ctkit.plugins import Registry
from ctkit.session.code import UNCHANGED, Code, with_known_code
from ctkit.session.document import document_of
from ctkit.session.only import EVERYTHING, Only
from ctkit.session.provenance import Provenance
from ctkit.session.workspace import workspace
from ctkit.storage import Cache, RunFolder

Item = TypeVar("Item")
Result = TypeVar("Result")
_log = logging.getLogger("ctkit.session")


@dataclass(frozen=True)
class Session:
    """One start of a run."""

    pipeline: Pipeline
    arms: tuple[Arm, ...]  #: of the pipeline, those that are worked on
    registry: Registry
    cache: Cache
    folder: RunFolder
    workers: compute.Workers
    console: Console
    provenance: Provenance
    device: str  #: "cpu" or "cuda"
    info: RunInfo
    device_pool: DevicePool  #: does what needs the device
    only: Only = EVERYTHING  #: what to work on; the rest stays as it is
    code: Code = UNCHANGED  #: what is new of the code of plugins

    @contextmanager
    def work(self, stage: str, item: str = "") -> Iterator[None]:
        """Announce that a stage does real work on ``item``, time it, and note it; not where the run is to stop."""
        self.provenance.began(stage, item)
        stopping.check()
        self.provenance.write()
        self.registry.notify("ctkit_stage_started", run=self.info, stage=stage, item=item)
        about = {"stage": stage, "item": item}
        name = f"{stage} {item}".rstrip()
        _log.info("%s begins", name, extra=about)
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        _log.info("%s took %.1f s", name, seconds, extra=about | {"seconds": round(seconds, 3)})
        self.provenance.made(stage, item, seconds)
        self.provenance.write()
        self.registry.notify("ctkit_stage_finished", run=self.info, stage=stage, item=item, seconds=seconds)

    def once(self, stage: str, item: str, at: str, work: Callable[[Path], Coroutine[None]]) -> Coroutine[None]:
        """Do work whose result is the cache's entry ``at``, unless it is there, nor while somebody else does the same.

        ``work`` is given a folder for what is unfinished, which outlives a kill.
        """
        waited = False
        while True:
            with workspace(self.cache, stage, at) as folder:
                if folder is not None:
                    if self.cache.holds(stage, at):
                        self.cached(stage, item)
                    else:
                        with self.work(stage, item):
                            yield from work(folder)
                    return
            if not waited:
                self.console.say(f"{stage} {item}: waiting for another arm or run that computes the same result")
            waited = True
            yield Wait()

    def workers_each(self, calls: int) -> int:
        """Workers for each of so many calls, of which as many are done at once as the device pool can."""
        return max(1, self.workers.backend.workers // self.device_pool.at_once(calls))

    def cached(self, stage: str, item: str = "") -> None:
        """Note that a stage's result was there already."""
        self.provenance.found(stage, item)

    def note(self, text: str, item: str = "") -> None:
        """Say once what the user should know of an item, or of the run as a whole, and keep it with the run."""
        note = {"item": item, "text": text}
        if note not in self.provenance.notes:
            self.provenance.notes.append(note)
            self.console.say(f"{item}: {text}" if item else text)

    def fail(self, stage: str, item: str, error: Exception) -> None:
        """Note that one item failed; the others go on, and the run ends with an error."""
        reason = str(error) if isinstance(error, CtkitError) else f"{type(error).__name__}: {error}"
        _log.debug("%s %s failed", stage, item, exc_info=error)
        self.provenance.ended(stage, item)
        self.provenance.failures.append({"stage": stage, "item": item, "reason": reason})
        self.console.warn(f"{stage} {item} failed: {reason}")

    @property
    def failed_arms(self) -> set[str]:
        """Arms that failed before there was a choice to train on."""
        early = (one["item"] for one in self.provenance.failures if one["stage"] in ("describe", "select"))
        return {item.partition("/")[0] for item in early}

    @contextmanager
    def going_on(self, stage: str, item: str) -> Iterator[None]:
        """Note what fails of one item, and go on with the others; but not where the disk refuses."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # a plugin may raise anything
            self.fail(stage, item, error)

    def parallel(
        self,
        stage: str,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        total: int,
        name: Callable[[Item], str],
        weight: Callable[[Item], int] = lambda item: 1,
    ) -> Iterator[compute.Done[Item, Result] | compute.Lost[Item]]:
        """Do ``work`` on every item in worker processes, with a progress bar of ``total``, to which ``weight`` adds up.

        Where the run is to stop, no further item is begun, and ``KeyboardInterrupt`` follows the last outcome.
        """
        wanted = takewhile(lambda _: not stopping.asked(), items)
        with self.console.progress(stage, total) as bar:
            for outcome in self.workers.run(work, wanted, name=name):
                bar.advance(weight(outcome.item))
                yield outcome
            stopping.check()


def open_session(
    pipeline: Pipeline,
    registry: Registry,
    console: Console,
    folder: RunFolder,
    jobs: Jobs = 1,
    *,
    looking: bool = False,
    anew: Collection[str] = (),
) -> Session:
    """Put together what the stages share. Who is only ``looking`` leaves the cache as it is.

    Nothing that is cached of the plugins called ``anew`` is found.
    """
    settings, stored = pipeline.compute, Cache.beside(folder.path, looking=looking)
    pipeline, code = with_known_code(pipeline, stored, anew)
    unusable = cache(lambda: next(iter(registry.call("ctkit_check_device", device="cuda")), None))
    device = devices.resolve(settings.device, settings.devices, unusable)
    pool = DevicePool(devices.shares(device, jobs, settings.devices), settings.time_limit)
    workers = compute.usable_cores() if settings.workers == "auto" else settings.workers
    backend = compute.Backend(settings.backend, workers, settings.scheduler, settings.time_limit)
    session = Session(
        pipeline=pipeline,
        arms=pipeline.arms,
        registry=registry.without(pipeline.rules.disable),
        cache=stored,
        folder=folder,
        workers=compute.Workers(backend),
        console=console,
        provenance=Provenance(folder, pipeline, device, jobs=pool.size),
        device=device,
        info=RunInfo(pipeline.run.name, folder.path, redacted(document_of(pipeline))),
        device_pool=pool,
        code=code,
    )
    for text in code.said:
        session.note(text)
    if (settings.device, device) == ("auto", "cpu") and devices.cuda_devices():
        session.note(f"this run computes on the CPU: {unusable()}")
    return session
