"""What the parameters of a stranger's reducer raise is a mistake of the pipeline, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from ctkit import plugins
from ctkit.contracts import Params
from ctkit.errors import ConfigError
from ctkit.pipeline_file import resolve

FILE = """
import numpy as np
from pydantic import Field, field_validator
from ctkit.contracts import *

class P(Params):
    at: float = knob(1, low=0, high=9, unit="levels", description="how many")
    PARAMETER

class Mine(Reducer[P]):
    def select(self, group, at, rng): ...
    MEMBER
"""


@pytest.mark.parametrize(
    ("parameter", "member", "said"),
    [
        ("x: int = Field(default='three', description='x')", "", "reduce[0].x: must be a whole number but is 'three'"),
        (
            "x: float = Field(default_factory=lambda: 1 / 0, description='x')",
            "",
            "reduce[0]: validators must raise ValueError, but one raised ZeroDivisionError: division by zero",
        ),
        ("", "knob = property(lambda self: {}['x'])", "reduce[0].use: reducer 'Mine' failed in knob: KeyError: 'x'"),
        (
            "",
            "knob = property(lambda self: 'at')",
            "reduce[0].use: reducer 'Mine' failed in knob: AttributeError: 'str' object has no attribute 'low'",
        ),
    ],
    ids=["default", "factory", "knob-raises", "knob-is-text"],
)
def test_it_is_one_mistake_with_its_place(tmp_path: Path, parameter: str, member: str, said: str) -> None:
    (tmp_path / "p.py").write_text(FILE.replace("PARAMETER", parameter or "...").replace("MEMBER", member))
    document = {"run": {"name": "x"}, "dataset": {"use": "phantom"}, "reduce": [{"use": "p.py:Mine"}]}
    with pytest.raises(ConfigError) as caught:
        resolve(document, plugins.load(), tmp_path)
    assert caught.value.mistakes == (f"request: {said}",)


def test_a_set_has_one_order_as_json() -> None:
    class Names(Params):
        names: frozenset[str] = frozenset("cab")
        numbers: set[int] = Field(default={3, 1, 2}, description="x")

    assert Names().model_dump(mode="json") == {"names": ["a", "b", "c"], "numbers": [1, 2, 3]}
    assert Names().model_dump(mode="json", exclude={"names"}) == {"numbers": [1, 2, 3]}
    assert Names.model_validate(Names().model_dump(mode="json")) == Names()
