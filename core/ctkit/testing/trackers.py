"""The checks of trackers: they take what any run gives, close their record, and leave the run's files alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ctkit.contracts import Tracker
from ctkit.contracts.judge import Judge
from ctkit.hookspecs import RunInfo
from ctkit.testing.plugins import Checks

PARAMETERS: dict[str, str | float | bool] = {"run.name": "study", "run.seed": 42, "reduce.hash+6.scope": "volume"}
NUMBERS = (("loss", 3.5, 1), ("loss", -2.25, 2), ("lr", 1e-12, 2), ("seconds", 7.5, 0))
FILES = {"report.html": "<title>study</title>", "results.csv": "arm,metric,value\nhash6,auc,0.8\n"}


class TrackerChecks(Checks[Tracker[Any]]):
    """Of a tracker, by three runs in one process: one that ends well, one that fails, one that fails at once.

    Pass parameters by which nothing leaves the machine.
    """

    kind = "tracker"

    def check_runs(self) -> None:
        """A tracker must take what any run gives, and leave the files of the run as they are."""
        with tempfile.TemporaryDirectory() as name:
            for number, (values, finished) in enumerate(((NUMBERS, True), (NUMBERS, False), ((), False))):
                folder = Path(name) / f"study-{number}"
                folder.mkdir()
                for file, text in FILES.items():
                    (folder / file).write_text(text, encoding="utf-8")
                _follow(self.judge, self.plugin(self.built.params), folder, values, finished=finished)
                changed = [file for file, text in FILES.items() if _text(folder / file) != text]
                self.judge.must(
                    not changed,
                    "a tracker must leave the files of a run as they are,"
                    f" but it changed {', '.join(changed)}; write files of your own, or copies",
                )


def _follow(
    judge: Judge, tracker: Tracker[Any], folder: Path, values: tuple[tuple[str, float, int], ...], *, finished: bool
) -> None:
    how = "in each of several runs of one process, finished or not"
    with judge.keeping(f"start must begin a record {how}", "let nothing of an earlier run remain"):
        tracker.start(RunInfo("study", folder, {"run": {"name": "study", "seed": 42}}), dict(PARAMETERS))
    for item in ("pretrain/hash+6/simclr/seed-42", "score/untrained/lesions/knn/labels-0.1", "scan"):
        for name, value, step in values:
            promise = f"metric must take {name} = {value} of {item} at step {step}"
            with judge.keeping(promise, "replace letters that the library does not take"):
                tracker.metric(item, name, value, step)
    with judge.keeping("file must take the files of a run", "copy or send it"):
        for file in FILES if values else ():
            tracker.file(folder / file)
    with judge.keeping(f"end must close the record {how}", "close what start has opened"):
        tracker.end(finished=finished)


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None
