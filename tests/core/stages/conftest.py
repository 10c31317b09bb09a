"""A small pipeline, and a session to run its stages by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctkit import pipeline_file, plugins, runner
from ctkit.compute import Backend, Done
from ctkit.console.output import Console
from ctkit.session import open_session
from ctkit.session.only import Only
from ctkit.session.session import Session
from ctkit.session.usage import used_by
from ctkit.stages.data import Data
from ctkit.stages.describe import describe
from ctkit.stages.scan import scan
from ctkit.stages.select import numbered, select

Start = Callable[..., Session]


class Here:
    """Does the work of worker processes in this one, which is faster where nothing crashes."""

    backend = Backend("processes", 1)

    def run(self, work: Callable[[Any], Any], items: Iterable[Any], *, name: Callable[[Any], str]) -> Iterator[Done]:
        """Do ``work`` on each item."""
        return (Done(item, work(item)) for item in items)


@pytest.fixture
def start(tmp_path: Path, toys: None) -> Iterator[Start]:
    """Opens a session on a phantom; called again, it starts the run again. Keywords replace parts of the pipeline."""
    with ExitStack() as stack:

        def opened(only: dict[str, str] | None = None, **changes: Any) -> Session:
            stack.close()  # the start before is over
            document = {
                "run": {"name": "x", "out": str(tmp_path / "runs" / "x"), **changes.pop("run", {})},
                "compute": {"workers": 1, "device": "cpu"},
                "dataset": {"use": "phantom", "patients": 2, "slices": 8, "matrix": 32, "size": 16},
                "reduce": [{"use": "all"}, {"use": "every-n", "id": "few", "n": 4}],
                **changes,
            }
            registry = plugins.load()
            resolved = pipeline_file.resolve(document, registry, tmp_path)
            session = open_session(resolved, registry, Console(quiet=True), runner.run_folder(resolved))
            stack.enter_context(used_by(session.cache, session.folder.path))
            wanted = {key: frozenset({name}) for key, name in (only or {}).items()}
            return replace(session, only=Only(**wanted), workers=Here())

        yield opened


@pytest.fixture
def chosen() -> Callable[[Session], Data]:
    """Scans, describes and selects."""
    return lambda session: select(session, numbered(describe(session, scan(session))))


def stages_of(session: Session) -> list[tuple[str, str, bool]]:
    """What a session noted: stage, item, and whether it was cached."""
    return [(one["stage"], one["item"], one["cached"]) for one in session.provenance.stages]


@pytest.fixture
def noted() -> Callable[[Session], list[tuple[str, str, bool]]]:
    """What a session noted: stage, item, and whether it was cached."""
    return stages_of
