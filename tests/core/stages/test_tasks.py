"""The tasks of a pipeline: built once, and known to pre-training where they ask for that."""

from __future__ import annotations

from pathlib import Path

from ctkit import plugins
from ctkit.runner import pipeline_text
from ctkit.session.document import document_of
from ctkit.stages.tasks import built, watched_tasks

PIPELINE = """\
[dataset]
use = "phantom"
[[reduce]]
use = "all"
[[pretrain]]
use = "simclr"
[[task]]
use = "phantom-lesions"
[[task]]
use = "phantom-regions"
id = "regions"
monitor = true
protocol = ["knn", "linear"]
"""


def test_the_tasks_that_ask_for_it_watch_pre_training(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(f'[run]\nname = "tasks"\n{PIPELINE}')
    pipeline = pipeline_text.load(path, plugins.load())
    asked = {plan.id: plan for plan in pipeline.tasks}["regions"]
    assert watched_tasks(pipeline) == {"regions": asked.task}
    assert built(asked.task) is built(asked.task)
    assert [task["monitor"] for task in document_of(pipeline)["task"]] == [False, True, True]
