"""What a run does where a task, a protocol or a method fails or breaks a promise: it says who, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ctkit.contracts import Evaluation, NoParams, Predictions, Pretrained, Protocol, Split, Stack
from ctkit.contracts.judge import Judge, image_of, mask_of
from ctkit.errors import CtkitError, DataError
from ctkit.pipeline_file.pipeline import Chosen, TaskPlan
from ctkit.plugins.registry import Entry
from ctkit.promises import check_pretrained
from ctkit.session import Session
from ctkit.stages import compare, evaluate
from ctkit.storage import RunFolder
from ctkit.storage.records import Place, ScoreRow
from ctkit.testing import samples


class Guess(Protocol[NoParams]):
    """Gives every image even chances; a test changes what it gives."""

    change: Callable[[Predictions], Any] = staticmethod(lambda found: found)

    def predict(self, job: Evaluation) -> Predictions:
        test, classes = job.task.splits()["test"], job.task.classes
        even = np.full((len(test.names), len(classes)), 1 / len(classes))
        found = Predictions(test.names, test.labels, even, classes, job.task.positive_class, test.patients)
        return type(self).change(found)  # type: ignore[no-any-return]  # wrong on purpose

    def scores(self, runs: object) -> Any:
        raise ZeroDivisionError("no image")

    compare = scores


class Shades(samples.Brightness):
    """A task that a test changes."""


def predicted() -> Predictions:
    def entry(kind: Any, name: str, plugin: type) -> Entry:
        return Entry(kind, name, "", "d", "1", f"{__name__}:{plugin.__name__}")

    task: Chosen[Any] = Chosen(entry("task", "shades", Shades), NoParams())
    protocol: Chosen[Any] = Chosen(entry("protocol", "guess", Guess), NoParams())
    plan = TaskPlan("t", task, protocol, 1, (1.0,), monitor=False)
    job = partial(Evaluation, backbone=Path(), folder=Path(), labels=1.0, seed=0, device="cpu", workers=0)
    return evaluate._predicted(plan, job, lambda done, total: None)


def test_predictions_that_keep_their_promise_pass() -> None:
    assert predicted().probabilities.shape == (20, 2)


def measured(found: Predictions, dice: Any) -> Predictions:
    return replace(found, names=tuple(f"test {number}" for number in range(5)), measures={"dice": dice})


def test_measures_of_the_test_volumes_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guess, "change", staticmethod(lambda p: measured(p, np.ones(5))))
    assert predicted().measures["dice"].shape == (5,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: None, "protocol 'guess': predict must return Predictions, but it is of type NoneType; build them"),
        (lambda p: p.nothing, "protocol 'guess' failed in predict: AttributeError: 'Predictions' object has no"),
        (
            lambda p: replace(p, probabilities=p.probabilities * 4),
            r"must sum to 1, but .* rows sum to 4\.\.4",
        ),
        (lambda p: replace(p, probabilities=p.probabilities * np.nan), "rows sum to nan"),
        (
            lambda p: replace(p, probabilities=p.probabilities[:, :1]),
            r"must be \(20, 2\) float64, but they are",
        ),
        (lambda p: replace(p, names=p.names[::-1]), "must be for the test images, in their order"),
        (lambda p: replace(p, measures={"dice": np.ones(20)}), "measures must be of the 5 test stacks, in their order"),
        (lambda p: measured(p, np.ones(4)), r"dice must be \(5,\) float64, and finite, but it is \(4,\) float64"),
        (lambda p: measured(p, np.full(5, np.nan)), "and finite, .* state a rule for empty masks"),
        (lambda p: measured(p, [1.0] * 5), "but it is a list"),
    ],
)
def test_a_protocol_that_breaks_its_promise_is_named(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Predictions], Any], message: str
) -> None:
    monkeypatch.setattr(Guess, "change", staticmethod(change))
    with pytest.raises(CtkitError, match=message):
        predicted()


def splits_with(**parts: Any) -> Callable[[Any], Mapping[str, Any]]:
    return lambda self: {
        name: split for name, split in (samples.Brightness.splits(self) | parts).items() if split is not None
    }


def stacked(*stacks: Stack, patients: tuple[str, ...] | None = None) -> Split:
    return Split(tuple("abcd"), np.arange(4) % 2, patients, stacks)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"positive": "brght"},
            "task 'shades': the positive class must be one of dark, bright, but it is 'brght'",
        ),
        (
            {"splits": splits_with(test=None)},
            "task 'shades': splits must be train and test, .* but they are",
        ),
        (
            {"splits": splits_with(val=Split(("a",), np.array([2])))},
            r"labels of val must be in 0\.\.1, but their range is 2",
        ),
        ({"splits": lambda self: None}, "task 'shades': splits must return a mapping"),
        (
            {"splits": splits_with(val=stacked(Stack("v", 3, (1, 1, 1))))},
            "stacks of val must hold each of its 4 images once, .* but 1 hold 3; give a Stack",
        ),
        (
            {"splits": splits_with(val=stacked(*[Stack("v", 2, (1, 1, 1))] * 2))},
            "stacks of val must hold each of its 4 images once, under different names",
        ),
        (
            {"splits": splits_with(val=stacked(Stack("v", 4, (0, 1, 1))))},
            "the spacing of stacks of val must be three lengths in mm, but one is not",
        ),
        (
            {"splits": splits_with(val=stacked(Stack("v", 4, (1, 1, 1)), patients=tuple("aabb")))},
            "a stack of val must be of one patient, but one is of several",
        ),
        ({"splits": lambda self: 1 // 0}, "task 'shades' failed in splits: ZeroDivisionError"),
    ],
)
def test_a_task_that_breaks_its_promise_is_named(
    monkeypatch: pytest.MonkeyPatch, members: dict[str, Any], message: str
) -> None:
    for name, member in members.items():
        monkeypatch.setattr(Shades, name, member)
    with pytest.raises(CtkitError, match=message):
        predicted()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda image: image / 255,
            r"must be uint8, and not empty, but image 3 of train is \(32, 32\) float64",
        ),
        (lambda image: image.astype(np.int64), r"but image 3 of train is \(32, 32\) int64"),
        (
            lambda image: np.stack([image] * 4, axis=2),
            r"width, 3\), but image 3 of train is \(32, 32, 4\)",
        ),
        (lambda image: image[:0], r"but image 3 of train is \(0, 32\) uint8"),
        (lambda image: None, "but image 3 of train is a NoneType"),
        (lambda image: image[..., 9, 9, 9], "task Shades failed in image: IndexError"),
    ],
)
def test_an_image_that_no_protocol_can_use_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[NDArray[np.uint8]], Any], message: str
) -> None:
    def image(self: Shades, split: str, number: int) -> Any:
        return change(samples.Brightness.image(self, split, number))

    monkeypatch.setattr(Shades, "image", image)
    with pytest.raises(CtkitError, match=message):
        image_of(Shades(), "train", 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mask: mask.astype(np.int64), r"must be \(height, width\) uint8, .* of train is \(32, 32\) int64"),
        (lambda mask: mask[None], r"image 3 of train is \(1, 32, 32\) uint8"),
        (lambda mask: mask + np.uint8(2), r"class numbers, 0\.\.1, but that of image 3 of train goes to 3"),
        (lambda mask: mask[0, 0, 0], "task Shades failed in mask: IndexError"),
    ],
)
def test_a_mask_that_no_protocol_can_use_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[NDArray[np.uint8]], Any], message: str
) -> None:
    assert mask_of(Shades(), "train", 3).max() == 1
    monkeypatch.setattr(Shades, "mask", lambda self, *at: change(samples.Brightness.mask(self, *at)))
    with pytest.raises(CtkitError, match=message):
        mask_of(Shades(), "train", 3)


def test_a_cell_that_cannot_be_scored_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[tuple[str, str, str]] = []
    session: Any = SimpleNamespace(
        folder=RunFolder(tmp_path),
        fail=lambda stage, item, error: failures.append((stage, item, str(error))),
    )
    session.going_on = partial(Session.going_on, session)

    def scored(_: object, cell: compare.Cell, runs: object) -> Any:
        with Judge("protocol 'guess'").calling("scores"):
            yield ScoreRow(cell.arm, *cell.place, "all", "all", "auc", *[0.5 if cell.arm != "a" else 1 // 0] * 5)

    cells = {compare.Cell(arm, Place("simclr", "t", "guess", 1.0)): [] for arm in ("a", "b")}
    monkeypatch.setattr(compare, "_scored", scored)
    monkeypatch.setattr(compare, "_cells", lambda done: cells)
    data: Any = SimpleNamespace(predictions=())
    compare.score(session, data)
    assert [(stage, item) for stage, item, _ in failures] == [("score", "a/simclr/t/guess")]
    assert "protocol 'guess' failed in scores: ZeroDivisionError" in failures[0][2]
    assert [line.partition(",")[0] for line in (tmp_path / "results.csv").read_text().split()] == ["arm", "b"]


def pretrained(backbone: Any) -> Pretrained:
    return Pretrained(backbone, steps=1, epochs=1.0, batch=2, seconds=1.0)


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda folder: None, "pretrain must return a Pretrained, but it is of type NoneType"),
        (
            lambda folder: pretrained(folder / "none"),
            "the backbone must be written to job.folder / .*, but there is no file 'none'",
        ),
        (
            lambda folder: pretrained(folder / "text"),
            "a backbone must be a safetensors file of weights, but Sa",
        ),
    ],
)
def test_a_method_without_a_backbone_is_named(give: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no weights, but longer than a header")
    with pytest.raises(CtkitError, match=f"method 'x': {message}"):
        check_pretrained(Judge("method 'x'"), give(tmp_path))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "architecture is missing, mean is missing, std is missing"),
        ({"architecture": "", "mean": "0.1", "std": "0.2"}, "architecture is missing;"),
        ({"architecture": "resnet18", "mean": "nan", "std": "0"}, "mean is nan, std is 0;"),
        (
            {"architecture": "resnet18", "mean": "0.1", "std": "wide"},
            "std is wide; write it with ctkit_torch",
        ),
    ],
    ids=str,
)
def test_a_backbone_that_nobody_could_load_is_named(metadata: dict[str, str], said: str, tmp_path: Path) -> None:
    file = tmp_path / "backbone.safetensors"
    save_file({"conv1.weight": np.zeros((1, 3, 1, 1), np.float32)}, file, metadata)
    with pytest.raises(CtkitError, match=f"method 'x': the metadata of a backbone must have .* but .*{said}"):
        check_pretrained(Judge("method 'x'"), pretrained(file))


def test_a_backbone_of_weights_passes(tmp_path: Path) -> None:
    check_pretrained(Judge("method 'x'"), pretrained(samples.backbone(tmp_path / "backbone.safetensors")))


def test_what_is_meant_for_the_user_passes_as_it_is() -> None:
    error = DataError("too few slices")
    with pytest.raises(DataError) as caught, Judge("method 'x'").calling("pretrain"):
        raise error
    assert caught.value is error


class Mute(Exception):  # noqa: N818  # as a stranger may name it
    """Fails to say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "MemoryError without a message"),
        (SystemExit(), "SystemExit without a message"),
        (Mute(), "Mute without a message"),
        (ValueError("a\n b " + "x" * 2000), f"ValueError: a b {'x' * 996} ..."),
        (TypeError("no. For further information visit https://example.org/x"), "TypeError: no."),
    ],
    ids=["memory", "exit", "mute", "long", "link"],
)
def test_what_a_plugin_raises_is_one_line_in_its_name(error: BaseException, said: str) -> None:
    with pytest.raises(CtkitError) as caught, Judge("method 'x'").calling("pretrain"):
        raise error
    assert str(caught.value) == f"method 'x' failed in pretrain: {said}"
