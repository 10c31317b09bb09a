"""Examples in docstrings run and print what they show."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

MODULES = [
    "ctkit.contracts.reducer",
    "ctkit.files",
    "ctkit.slices.rendering",
    "ctkit_hashing.codes",
    "ctkit_reducers.entropy",
    "ctkit_reducers.mutual_information",
    "ctkit_reducers.ssim",
    "ctkit_tasks.statistics",
    "ctkit_torch.backbones",
]


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_work(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(import_module(module))
    assert tried > 0
    assert failed == 0
