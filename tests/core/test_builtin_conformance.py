"""Every plugin that is installed keeps its contract, by the checks that strangers' plugins are held to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ctkit import plugins
from ctkit.contracts import Params
from ctkit.plugins import Entry
from ctkit.testing import (
    check_dataset,
    check_distribution,
    check_method,
    check_protocol,
    check_reducer,
    check_spec,
    check_task,
    samples,
)

ENTRIES = [entry for entry in plugins.load().entries if entry.distribution == "ctkit"]


def of_kind(kind: str) -> list[Any]:
    return [pytest.param(entry, id=entry.name) for entry in ENTRIES if entry.kind == kind]


def params_of(entry: Entry, **values: Any) -> Params:
    return entry.load().params_type.model_validate(values)


def test_the_distribution_conforms() -> None:
    check_distribution("ctkit")


@pytest.mark.parametrize("entry", of_kind("reducer"))
def test_a_reducer_conforms(entry: Entry, tmp_path: Path) -> None:
    seen: dict[str, Any] = {"backbone": samples.backbone(tmp_path / "backbone.safetensors"), "size": 32}
    parameters = {"embedding": seen, "k-center": seen, "semdedup": {**seen, "clusters": 3}}
    chosen: Any = entry.load()
    check_reducer(chosen, params_of(entry, **parameters.get(entry.name, {})), within_knob=entry.name != "semdedup")


# --- data sets ----------------------------------------------------------------------------------------------------


def images(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for patient in ("a", "b"):
        for index in range(4):
            path = folder / f"{patient}_{index}.png"
            Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(path)
    (folder / "notes.txt").write_text("no image")
    return {"root": folder}


DATA: dict[str, Callable[[Path], dict[str, Any]]] = {
    "phantom": lambda _: {"patients": 3, "slices": 4, "size": 32},
    "images": images,
}


@pytest.mark.parametrize("entry", of_kind("dataset"))
def test_a_dataset_conforms(entry: Entry, tmp_path: Path) -> None:
    chosen: Any = entry.load()
    if entry.name not in DATA:
        pytest.skip("todo")
    check_dataset(chosen, params_of(entry, **DATA[entry.name](tmp_path)))


# --- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", of_kind("method"))
def test_a_method_conforms(entry: Entry) -> None:
    chosen: Any = entry.load()
    values = {"backbone": "resnet18", "size": 32, "steps": 4, "batch": 8, "warmup": 0, "checkpoint_minutes": 0}
    check_method(chosen, params_of(entry, **values))


@pytest.mark.parametrize("entry", of_kind("protocol"))
def test_a_protocol_conforms(entry: Entry) -> None:
    chosen: Any = entry.load()
    values: dict[str, Any] = {"size": 32} | ({"epochs": 2} if entry.name == "finetune" else {})
    check_protocol(chosen, params_of(entry, **values))


# --- tasks --------------------------------------------------------------------------------------------------------
