from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import ctkit_reducers
from ctkit.contracts import Reducer
from ctkit.hookspecs import Spec

SPECS = ctkit_reducers.ctkit_register_reducers()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_announced_class_is_a_reducer(spec: Spec) -> None:
    module, name = spec.target.split(":")
    assert issubclass(getattr(import_module(module), name), Reducer)


def test_reducers_on_pairs_live_inside_a_volume() -> None:
    for spec in SPECS:
        module, name = spec.target.split(":")
        reducer = getattr(import_module(module), name)
        everywhere = {"volume", "patient", "dataset"}
        assert reducer.scopes == ({"volume"} if reducer.evidence == "pair" else everywhere)


def test_announcing_imports_no_library_that_computes() -> None:
    code = "import sys, ctkit_reducers; ctkit_reducers.ctkit_register_reducers(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "PIL", "sklearn", "skimage"} & set(done.stdout.split())
