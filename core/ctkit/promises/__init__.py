"""What plugins hand over, held to their contracts: where a run takes it, and in ``ctkit.testing``.

A check raises for the first promise that is broken: what must be, what is, and what to do about it.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctkit.contracts import Decision, Ints, Pixels, Predictions, Pretrained, SourceFile, Split, Task, Volume
from ctkit.contracts.judge import Judge, form_of

_SUM_TOLERANCE = 1e-6  #: how far the probabilities of an image may sum from 1

# --- data sets ----------------------------------------------------------------------------------------------------


def arranged(plugin: str, found: Iterable[Volume]) -> Iterator[Volume]:
    """Pass on the volumes that a data set's ``arrange`` gives, each checked. Raises ``CtkitError``."""
    judge = Judge(plugin)
    with judge.calling("arrange", OSError):  # it pulls what the core reads, whose disk may fail
        for volume in found:
            check_volume(judge, volume)
            yield volume


def checked_files(judge: Judge, files: Iterable[SourceFile]) -> Iterator[SourceFile]:
    """Pass on the files of a data set, each checked."""
    for file in files:
        right = isinstance(file, SourceFile) and isinstance(file.path, str)
        judge.must(right, "" if right else f"files must give SourceFile objects, but {_kind_of(file)}; build them")
        yield file


def check_keys(judge: Judge, keys: Sequence[str]) -> None:
    """Check that no two volumes have one key, by which all results know them."""
    doubled = len(keys) - len({*keys})
    judge.must(not doubled, f"volumes must have different keys, but {doubled} are doubled; add to the key")


def check_volume(judge: Judge, volume: Volume) -> None:
    """Check that a volume holds together."""
    judge.must(
        isinstance(volume, Volume), f"arrange must give Volume and Skipped objects, but {_kind_of(volume)}; build them"
    )
    judge.must(
        _is_name(volume.key) and _is_name(volume.patient),
        f"a volume must have a key and a patient, both strings, but they are of types {type(volume.key).__name__}"
        f" and {type(volume.patient).__name__}, or empty; convert numbers with str()",
    )
    n, files = len(volume.slices), range(max(1, len(volume.files)))
    size = (volume.rows, volume.columns)
    judge.must(
        all(type(one) is int for one in size), f"rows and columns must be of type int, but are {size!r}; convert them"
    )
    judge.must(n > 0 and min(size) > 0, "a volume must have pixels, but it is empty; skip it")
    distinct = all(one != other for one, other in itertools.pairwise(sorted(volume.slices)))  # a set takes memory
    judge.must(
        distinct
        and all(type(file) is type(frame) is int and file in files and frame >= 0 for file, frame in volume.slices),
        "each slice must be a different frame of one of the volume's files, two numbers of type int,"
        f" but slices are {volume.slices[:3]}... of {len(volume.files)} files; number files from 0",
    )
    lengths = [one for one in (*volume.spacing, volume.thickness) if one is not None]
    judge.must(
        len(volume.spacing) == 3 and all(isinstance(one, int | float) and math.isfinite(one) for one in lengths),
        f"spacing must be three lengths in mm, thickness one, or None each, but they are {volume.spacing} and"
        f" {volume.thickness!r}; give None for what is not known",
    )
    words = (*volume.notes, volume.kernel, volume.same_scan)
    judge.must(
        isinstance(volume.notes, tuple) and all(isinstance(one, str) for one in words),
        f"notes must be a tuple of strings, kernel and same_scan strings, but one of {words} is not; convert it",
    )
    judge.must(
        len(volume.order) in (0, n) and all(isinstance(key, str) for key in volume.order),
        f"order must have a string for each slice, or be empty, but it has {len(volume.order)} for {n} slices; fill it",
    )
    json_of(judge, "details must be values that JSON supports", volume.details, allow_nan=True)


def json_of(judge: Judge, promise: str, facts: Mapping[str, Any], *, allow_nan: bool = False) -> str:
    """Return facts as JSON, which has no NaN, though Python reads and writes it."""
    with judge.keeping(promise, "convert values to plain numbers, strings, lists and dicts"):
        return json.dumps(dict(facts), allow_nan=allow_nan)


def check_pixels(judge: Judge, volume: Volume, pixels: Pixels, wanted: Ints) -> None:
    """Check what was read of a volume where the slices ``wanted`` were asked for, but for values that are finite."""
    judge.must(isinstance(pixels, Pixels), f"read must return Pixels, but {_kind_of(pixels)}; build them")
    values, index = pixels.values, pixels.index
    judge.must(
        isinstance(index, np.ndarray) and index.dtype == np.int64 and index.ndim == 1 and (np.diff(index) > 0).all(),
        f"index must be ascending int64, but it is {form_of(index)} or not ascending; sort it",
    )
    shape = (len(index), volume.rows, volume.columns)
    judge.must(
        isinstance(values, np.ndarray) and values.shape == shape,
        f"values must be {shape}: one slice for each number of index, with the rows and columns of the volume,"
        f" but they are {form_of(values)}; see ctkit.contracts.Pixels",
    )
    found = np.sort(np.concatenate([index, np.array([number for number, _ in pixels.skipped], np.int64)]))
    judge.must(
        np.array_equal(found, wanted),
        f"each requested slice must be read or skipped, once, but of {len(wanted)} slices {len(index)}"
        f" were read and {len(pixels.skipped)} skipped, or others were returned; list the unreadable ones in skipped",
    )
    judge.must(
        pixels.unit in ("HU", "arbitrary"), f"unit must be 'HU' or 'arbitrary', but it is {pixels.unit!r}; choose one"
    )
    judge.must(
        values.dtype == np.int16 if pixels.unit == "HU" else values.dtype.kind in "biuf",
        "values must be int16 for Hounsfield units, and numbers otherwise,"
        f" but they are {form_of(values)}; round, clip to int16 and convert",
    )
    judge.must(
        pixels.ends is None or getattr(pixels.ends, "shape", ()) == (len(index), 2),
        f"ends must be None or ({len(index)}, 2), but they are {form_of(pixels.ends)}; give lowest and highest values",
    )


# --- reducers -----------------------------------------------------------------------------------------------------


def check_decision(judge: Judge, decision: Decision, n: int, where: str = "") -> None:
    """Check what a reducer decided on a group of ``n`` slices, as far as a selection is made of it.

    ``where`` says for messages what group it is.
    """
    judge.must(
        isinstance(decision, Decision), f"select{where} must return a Decision, but {_kind_of(decision)}; build one"
    )
    kept, by = decision.kept, decision.by
    _check_column(judge, f"kept{where}", kept, n, "b", "bool")
    if by is None:
        return
    _check_column(judge, f"by{where}", by, n, "i", "int64")
    low, high = (int(by.min()), int(by.max())) if n else (-1, -1)
    judge.must(
        low >= -1 and high < n,
        f"by{where} must be in -1..{n - 1}, but its range is {low} to {high}; give positions in the group",
    )
    judge.must(
        kept[by[by >= 0]].all(),
        f"by{where} must be the position of a kept slice,"
        " but it is that of a dropped one; give the kept slice that represents it",
    )
    if decision.distance is not None:
        _check_column(judge, f"distance{where}", decision.distance, n, "f", "float32")


def _check_column(judge: Judge, name: str, column: Any, n: int, kind: str, dtype: str) -> None:
    right = isinstance(column, np.ndarray) and column.dtype.kind == kind and column.shape == (n,)
    found = "it is right" if right else f"it is {form_of(column)}"  # words are slow
    judge.must(right, f"{name} must be ({n},) {dtype}, but {found}; see ctkit.contracts.Decision")


# --- methods ------------------------------------------------------------------------------------------------------


def check_pretrained(judge: Judge, found: Pretrained) -> None:
    """Check that a method gives a backbone: a safetensors file of weights that says what it takes to use them."""
    from safetensors import safe_open

    judge.must(isinstance(found, Pretrained), f"pretrain must return a Pretrained, but {_kind_of(found)}; build one")
    judge.must(
        isinstance(found.backbone, Path) and found.backbone.is_file(),
        'the backbone must be written to job.folder / "backbone.safetensors", but there is no file'
        f" {getattr(found.backbone, 'name', found.backbone)!r}; write it there, and return that path",
    )
    promise, advice = "a backbone must be a safetensors file of weights", "write it with safetensors"
    with judge.keeping(promise, advice), safe_open(found.backbone, framework="numpy") as file:
        names, metadata = list(file.keys()), file.metadata() or {}
    judge.must(names, f"{promise}, but it holds none; {advice}")
    faults = [
        *([] if metadata.get("architecture") else ["architecture is missing"]),
        *(f"{name} is {metadata.get(name, 'missing')}" for name in ("mean", "std") if not _is_level(metadata, name)),
    ]
    judge.must(
        not faults,
        "the metadata of a backbone must have its architecture, a name of torchvision or timm, and the mean and std of"
        f" its images on the scale 0..1, by which it is loaded, but {', '.join(faults)}; write it with"
        " ctkit_torch.backbones.save_backbone",
    )


def _is_level(metadata: Mapping[str, str], name: str) -> bool:
    try:
        value = float(metadata.get(name, ""))
    except ValueError:
        return False
    return math.isfinite(value) and (name != "std" or value > 0)


# --- tasks --------------------------------------------------------------------------------------------------------


def check_classes(judge: Judge, task: Task[Any]) -> None:
    """Check a task's classes, and which of them is positive."""
    with judge.calling("classes"):
        classes, positive = task.classes, task.positive_class
    judge.must(
        len(classes) > 1 and all(map(_is_name, classes)) and len(set(classes)) == len(classes),
        "there must be two or more classes with different names,"
        f" but they are {classes}; name them in the order of their numbers",
    )
    judge.must(
        positive is None or positive in classes,
        f"the positive class must be one of {', '.join(classes)},"
        f" but it is {positive!r}; set positive to the finding that the task detects",
    )


def check_splits(judge: Judge, splits: Mapping[str, Split], classes: Sequence[str]) -> None:
    """Check the parts of a task: their names, labels and patients."""
    judge.must(isinstance(splits, Mapping), f"splits must return a mapping of parts, but {_kind_of(splits)}; build one")
    judge.must(
        {"train", "test"} <= splits.keys() <= {"train", "val", "test"},
        f"splits must be train and test, and optionally val, but they are {', '.join(map(str, splits))}; name them so",
    )
    for part, split in splits.items():
        _check_part(judge, part, split, len(classes))
    names = [name for split in splits.values() for name in split.names]
    doubled = len(names) - len(set(names))
    judge.must(
        not doubled,
        f"an image must be in one part only, under a name of its own, but {doubled} names come again; drop"
        " doubles, and add the part or the folder to the name",
    )


def _check_part(judge: Judge, part: str, split: Split, classes: int) -> None:
    judge.must(isinstance(split, Split), f"part {part} must be a Split, but {_kind_of(split)}; build one")
    n, labels = len(split.names), split.labels
    judge.must(n > 0, f"part {part} must have images, but it has none; omit the part")
    judge.must(
        isinstance(labels, np.ndarray) and labels.dtype == np.int64 and labels.shape == (n,),
        f"labels of {part} must be ({n},) int64, because there are {n} names,"
        f" but they are {form_of(labels)}; give a class number for each image",
    )
    judge.must(
        ((labels >= 0) & (labels < classes)).all(),
        f"labels of {part} must be in 0..{classes - 1},"
        f" but their range is {labels.min()} to {labels.max()}; use the numbers of `classes`",
    )
    judge.must(
        split.patients is None or len(split.patients) == n,
        f"patients of {part} must be {n}, or None if they are not known,"
        f" but there are {len(split.patients or ())}; name the patient of each image",
    )
    _check_stacks(judge, part, split)


def _check_stacks(judge: Judge, part: str, split: Split) -> None:
    stacks, patients = split.stacks, split.patients
    if not stacks:
        return
    counts = [stack.slices for stack in stacks]
    judge.must(
        min(counts) > 0 and sum(counts) == len(split.names) and len({stack.name for stack in stacks}) == len(stacks),
        f"stacks of {part} must hold each of its {len(split.names)} images once, under different names,"
        f" but {len(stacks)} hold {sum(counts)}; give a Stack for each volume",
    )
    judge.must(
        all(np.isfinite(stack.spacing).all() and min(stack.spacing) > 0 for stack in stacks),
        f"the spacing of stacks of {part} must be three lengths in mm, but one is not; read it from the headers",
    )
    of = np.repeat(np.arange(len(stacks)), counts).tolist()
    judge.must(
        patients is None or len(set(zip(of, patients, strict=True))) == len(stacks),
        f"a stack of {part} must be of one patient, but one is of several; give each a stack of its own",
    )


# --- protocols ----------------------------------------------------------------------------------------------------


def check_predictions(judge: Judge, found: Predictions, task: Task[Any]) -> None:
    """Check that predictions are of the test images of a task, and their rows probabilities."""
    judge.must(isinstance(found, Predictions), f"predict must return Predictions, but {_kind_of(found)}; build them")
    test = task.splits()["test"]
    if found.measures:
        names, n = tuple(stack.name for stack in test.stacks), len(test.stacks)
        judge.must(
            found.names == names and len(found.patients or names) == n,
            f"measures must be of the {n} test stacks, in their order, with the patient of each,"
            f" but there are {len(found.names)} names, or they differ; use the stacks of the test split",
        )
        for name, values in found.measures.items():
            judge.must(
                form_of(values) == f"({n},) float64" and np.isfinite(values).all(),
                f"{name} must be ({n},) float64, and finite, but it is {form_of(values)}; state a rule for empty masks",
            )
        return
    judge.must(
        found.names == test.names and np.array_equal(found.labels, test.labels),
        f"predictions must be for the test images, in their order, with their labels, but there are {len(found.names)}"
        f" names for {len(test.names)} images, or they differ; use names and labels of the test split",
    )
    judge.must(
        found.classes == task.classes and found.positive == task.positive_class and found.patients == test.patients,
        "classes, positive class and patients must be the task's,"
        f" but classes are {found.classes} and the positive one is {found.positive}, or patients differ; copy them",
    )
    shape, p = (len(test.names), len(task.classes)), found.probabilities
    judge.must(
        isinstance(p, np.ndarray) and p.shape == shape and p.dtype == np.float64,
        f"probabilities must be {shape} float64,"
        f" but they are {form_of(p)}; one row for each image, one column for each class",
    )
    sums = p.sum(axis=1)
    judge.must(
        np.isfinite(p).all() and (p >= 0).all() and np.allclose(sums, 1, rtol=0, atol=_SUM_TOLERANCE),
        "probabilities must be 0 or more, and each row must sum to 1,"
        f" but the smallest is {p.min():g} and rows sum to {sums.min():g}..{sums.max():g}; use a softmax in float64",
    )


# --- words --------------------------------------------------------------------------------------------------------


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _kind_of(value: object) -> str:
    return f"it is of type {type(value).__name__}"
