"""What one start of a run shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctkit import pipeline_file, plugins, runner
from ctkit.compute import usable_cores
from ctkit.console import Console
from ctkit.session import open_session


@pytest.mark.parametrize(("asked", "workers"), [("auto", usable_cores()), (3, 3)])
def test_a_run_has_as_many_workers_as_asked_for_or_one_for_each_core(
    tmp_path: Path, asked: str | int, workers: int
) -> None:
    document = {
        "run": {"name": "x", "out": str(tmp_path / "run")},
        "compute": {"workers": asked, "device": "cpu"},
        "dataset": {"use": "phantom"},
        "reduce": [{"use": "all"}],
    }
    resolved = pipeline_file.resolve(document, plugins.load(), tmp_path)
    session = open_session(resolved, plugins.load(), Console(quiet=True), runner.run_folder(resolved))
    assert session.workers.backend.workers == workers
