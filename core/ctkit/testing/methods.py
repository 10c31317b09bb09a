"""The checks of methods: a whole backbone, the same each time, also after an interruption."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Method, Pretrained, Pretraining
from ctkit.contracts.judge import Judge
from ctkit.promises import check_pretrained
from ctkit.testing import samples
from ctkit.testing.plugins import Checks, Once

METADATA = {"arm": "a", "fingerprint": "0"}
FEWEST_STEPS = 4

#: What heads and wrappers leave in front of or beside a trunk's names.
_FOREIGN = ("module.", "model.", "backbone.", "encoder.", "state_dict.", "fc.", "projection_head.")


class MethodChecks(Checks[Method[Any]]):
    """Of a method, by short trainings on 16 random slices of 32 pixels, on the CPU.

    Pass parameters that make it quick: a small trunk and four to ten steps; with checkpoints at every chance, so that
    going on after an interruption is tried too. One that takes no step must only keep to its seed.
    """

    kind = "method"

    @Once
    def trial(self) -> _TrialJob:
        """Trainings in a folder of their own."""
        return _TrialJob(self.judge, self.folder)

    @Once
    def trained(self) -> tuple[Pretrained, dict[str, NDArray[Any]], _Watcher]:
        """What one training gave, its weights, and what was told meanwhile."""
        watcher = _Watcher()
        found = self.trial.train(self.built, "first", watcher=watcher)
        return found, _weights(self.judge, found), watcher

    def check_backbone(self) -> None:
        """A backbone must have the weights of a trunk, finite, with the metadata of the job."""
        assert self.trained

    def check_report(self) -> None:
        """Steps, loss and seconds must be told."""
        judge, (found, _, watcher) = self.judge, self.trained
        if not found.steps:
            return
        judge.must(
            found.steps >= FEWEST_STEPS,
            f"a training must take {FEWEST_STEPS} steps or more to be checked,"
            f" but it took {found.steps}; pass parameters with more steps or a smaller batch",
        )
        done = [step for step, _ in watcher.steps]
        judge.must(
            done and done == sorted(done) and watcher.steps[-1] == (found.steps, found.steps),
            "job.progress must receive increasing steps, and finally the number of all steps, but it received"
            f" {watcher.steps[-3:]} of {found.steps}; call it after each step",
        )
        judge.must(watcher.metrics, "job.metric must receive the loss, but it was not called; call it regularly")
        losses = [value for _, name, value in found.history if name == "loss"]
        judge.must(
            losses and np.isfinite(losses).all(),
            f"history must have finite values called \"loss\", but they are {losses[:3]}; add (step, 'loss', value)",
        )
        judge.must(
            found.epochs > 0 and 0 < found.batch <= 16 and found.seconds > 0,
            "epochs, batch and seconds must state what was done, with a batch of at most the 16 slices of the arm, but"
            f" they are {found.epochs}, {found.batch} and {found.seconds}; lower the batch for a small arm, and note"
            " it",
        )

    def check_seed(self) -> None:
        """Another seed must give another backbone, unless the method draws nothing."""
        found, weights, _ = self.trained
        same = _same(weights, _weights(self.judge, self.trial.train(self.built, "other seed", seed=2)))
        if found.steps:
            self.judge.must(
                not same,
                "another seed must give another backbone, but it gave the same; seed weights, order and views by"
                " job.seed",
            )
        else:
            self.judge.must(
                same != self.built.draws,
                "another seed must give another backbone if the method draws, and the same if not,"
                f" but draws is {self.built.draws}, and the opposite holds; seed weights by job.seed, or change draws",
            )

    def check_repeated(self) -> None:
        """The same slices and seed must give the same backbone, also after an interruption."""
        found, weights, _ = self.trained
        half = found.steps // 2
        if half:
            self.trial.interrupt(self.built, "interrupted", at=half)
            if _same(weights, _weights(self.judge, self.trial.train(self.plugin(self.params), "interrupted"))):
                return
        self.judge.must(
            _same(weights, _weights(self.judge, self.trial.train(self.plugin(self.params), "second"))),
            "the same slices and seed must give the same backbone, but a second training gave another;"
            " draw from generators that are seeded by the job, and order nothing by a set",
        )
        self.judge.must(
            not half,
            "a resumed training must give the backbone of an uninterrupted one, but it gave another after a stop at"
            f" step {half} of {found.steps}; keep weights, optimiser,"
            " momentum copies and queues in the checkpoint, and make order and views functions of seed and step",
        )


class _Stop(BaseException):
    """What an interruption looks like to a method; no ``except Exception`` catches it."""


@dataclass
class _Watcher:
    stop_at: int | None = None
    steps: list[tuple[int, int]] = field(default_factory=list)
    metrics: list[tuple[str, float, int]] = field(default_factory=list)

    def progress(self, done: int, total: int) -> None:
        self.steps.append((done, total))
        if self.stop_at is not None and done >= self.stop_at:
            raise _Stop

    def metric(self, name: str, value: float, step: int) -> None:
        self.metrics.append((name, value, step))


class _TrialJob:
    """Trainings in a folder, on one arm."""

    def __init__(self, judge: Judge, folder: Path) -> None:
        self._judge = judge
        self._folder = folder
        self._rows = samples.rows(folder)

    def train(self, method: Method[Any], name: str, *, seed: int = 1, watcher: _Watcher | None = None) -> Pretrained:
        watcher = watcher or _Watcher()
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        found = method.pretrain(
            Pretraining(self._rows, seed, "cpu", 0, folder, METADATA, watcher.progress, watcher.metric)
        )
        check_pretrained(self._judge, found)
        self._judge.must(
            found.backbone == folder / "backbone.safetensors",
            'the backbone must be written to job.folder / "backbone.safetensors",'
            f" but it is said to be {found.backbone.name}; write it there, and return that path",
        )
        return found

    def interrupt(self, method: Method[Any], name: str, at: int) -> None:
        try:
            self.train(method, name, watcher=_Watcher(stop_at=at))
        except _Stop:
            return
        self._judge.must(
            False, "an exception in job.progress must end the training, but it continued; do not catch BaseException"
        )


def _weights(judge: Judge, found: Pretrained) -> dict[str, NDArray[Any]]:
    """Read a backbone's weights and check that they are a trunk's."""
    from safetensors import safe_open

    with safe_open(found.backbone, framework="numpy") as file:
        metadata = file.metadata() or {}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    foreign = sorted(name for name in weights if name.startswith(_FOREIGN))
    judge.must(
        not foreign,
        f"a backbone must have only its own weights, under torchvision's names, but it has {', '.join(foreign[:3])};"
        " remove prefixes, heads and classifiers",
    )
    judge.must(
        any(value.ndim == 4 and value.shape[1] == 3 for value in weights.values()),
        "a backbone must have 3 input channels, but none of its convolutions has; repeat the weights of one channel,"
        " divided by 3",
    )
    finite = all(value.dtype.kind != "f" or np.isfinite(value).all() for value in weights.values())
    judge.must(finite, "weights must be finite, but some are not; lower the rate")
    judge.must(
        metadata.items() >= METADATA.items(),
        f"a backbone must contain the job's metadata, but it contains {metadata}; pass job.metadata to safetensors",
    )
    return weights


def _same(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(value, other[name]) for name, value in one.items())
