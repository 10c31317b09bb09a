"""Opening a session: putting together what the stages share."""

from __future__ import annotations

from functools import cache, partial

from ctkit import compute
from ctkit.compute import Crew, Jobs, devices
from ctkit.console import Console, redacted
from ctkit.hookspecs import RunInfo
from ctkit.pipeline_file import Pipeline
from ctkit.plugins import Registry
from ctkit.session.provenance import Provenance
from ctkit.session.session import Session
from ctkit.storage import Cache, RunFolder


def open_session(
    pipeline: Pipeline, registry: Registry, console: Console, folder: RunFolder, jobs: Jobs = 1
) -> Session:
    """Put together what the stages share."""
    settings = pipeline.compute
    unusable = cache(partial(registry.manager.hook.ctkit_check_device, device="cuda"))
    device = devices.resolve(settings.device, settings.devices, unusable)
    crew = Crew(devices.shares(device, jobs, settings.devices))
    backend = compute.Backend.of(settings.backend, settings.workers, settings.scheduler, settings.time_limit)
    session = Session(
        pipeline=pipeline,
        arms=pipeline.arms,
        registry=registry,
        cache=Cache.beside(folder.path),
        folder=folder,
        workers=compute.Workers(backend, folder.journal),
        console=console,
        provenance=Provenance(folder, pipeline, device, jobs=crew.size),
        device=device,
        info=RunInfo(pipeline.run.name, folder.path, redacted(pipeline.document)),
        crew=crew,
    )
    if (settings.device, device) == ("auto", "cpu") and devices.cuda_devices():
        session.note(f"this run computes on the CPU: {unusable()}")
    return session
