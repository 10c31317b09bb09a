"""A method, a task and a protocol that need no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ctkit import plugins

PLUGINS = '''\
import numpy as np
from safetensors.numpy import save_file
from typing import Literal
from ctkit.contracts import PRETRAINING, Difference, Leak, Method, NoParams, Params, Predictions, Pretrained, Protocol
from ctkit.contracts import Score, Split, Task
from ctkit.hookspecs import Spec, hookimpl

class MeanParams(Params):
    mood: Literal["fine", "raises", "nothing", "misnamed"] = "fine"
    unlucky: int = -1

class Mean(Method[MeanParams]):
    """Its backbone is the mean of the arm's slices, and the seed."""

    def pretrain(self, job):
        if self.params.mood == "raises" or self.params.unlucky == job.seed:
            raise ValueError("no training today")
        if self.params.mood == "nothing":
            return None
        path = job.folder / "backbone.safetensors"
        weights = {"mean": np.array([job.rows.mean]), "seed": np.array([job.seed])}
        name = "convnext_tinny" if self.params.mood == "misnamed" else "convnext_tiny"
        says = {"architecture": name, "mean": "0.5", "std": "0.5"}
        save_file(weights, path, metadata={**job.metadata, **says})
        job.metric("loss", 0.5, 1)
        notes = (f"{len(job.rows)} slices were seen",)
        return Pretrained(path, 1, 1.0, len(job.rows), 0.5, history=((1, "loss", 0.5),), notes=notes)

class Coins(Task[NoParams]):
    """Heads or tails."""

    classes = ("heads", "tails")

    def splits(self):
        return {part: Split(tuple(f"{part}-{n}" for n in range(8)), np.arange(8) % 2) for part in ("train", "test")}

    def image(self, split, number):
        return np.full((16, 16), 20 * number, np.uint8)

class GuessParams(Params):
    mood: Literal["fine", "raises", "beyond", "leaks"] = "fine"

class Guess(Protocol[GuessParams]):
    """Guesses by the evaluation's seed."""

    def predict(self, job):
        if self.params.mood == "raises":
            raise ValueError("no guess today")
        test = job.task.splits()["test"]
        p = np.random.default_rng(job.seed).random(len(test.names))
        p = p + 1 if self.params.mood == "beyond" else p
        leaks = (
            Leak("", "", "test", "test-3", "heads", "train", "train-1", "tails", 5),
            Leak("", "", "test", "test-2", "heads", PRETRAINING, "1", "", 4),
        ) if self.params.mood == "leaks" else ()
        return Predictions(test.names, test.labels, np.stack([1 - p, p], axis=1), job.task.classes, leaks=leaks)

    def scores(self, runs):
        values = [float((run.probabilities.argmax(1) == run.labels).mean()) for run in runs]
        return (Score("accuracy", float(np.mean(values)), 0.0, 1.0),)

    def compare(self, arm, reference):
        return (Difference("accuracy", 0.0, -0.1, 0.1, 1.0, "none"),)

@hookimpl
def ctkit_register_methods():
    return [Spec("mean", "the mean of the slices", "toys:Mean")]

@hookimpl
def ctkit_register_tasks():
    return [Spec("coins", "heads or tails", "toys:Coins")]

@hookimpl
def ctkit_register_protocols():
    return [Spec("guess", "guesses", "toys:Guess")]
'''


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installs the method ``mean``, the task ``coins`` and the protocol ``guess``."""
    info = tmp_path / "site" / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\ntoys = toys\n")
    (tmp_path / "site" / "toys.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    plugins.load.cache_clear()
    yield
    plugins.load.cache_clear()
