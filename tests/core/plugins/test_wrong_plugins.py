"""Wrong plugins: each ends in one line that names the plugin and says what to do.

``wrong_plugins.txt`` holds them: the kind that a class ``Mine`` is used as, its text, and after ``---`` what is said.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ctkit.errors import CtkitError
from ctkit.pipeline_file.pipeline import Chosen
from ctkit.plugins import Registry

HEAD = """\
import numpy as np
from pydantic import BaseModel, Field
from ctkit.contracts import *
from ctkit.contracts import Dataset, Method, Protocol, Reducer, Task

class One(Params):
    at: float = knob(1, low=0, high=9, unit="levels", description="how many")

class Keeps(Reducer[NoParams]):
    def select(self, group, at, rng):
        return Decision(np.ones(len(group), bool))
"""

WRONG = [
    pytest.param(*kind_and_text.partition("\n")[::2], said.strip(), id=name)
    for block in (Path(__file__).parent / "wrong_plugins.txt").read_text().removeprefix("=== ").split("\n=== ")
    for name, _, rest in [block.partition(" | ")]
    for kind_and_text, _, said in [rest.partition("\n---\n")]
]


@pytest.mark.parametrize(("kind", "text", "message"), WRONG)
def test_a_wrong_plugin_is_named_in_one_line(tmp_path: Path, kind: str, text: str, message: str) -> None:
    (tmp_path / "p.py").write_text(f"{HEAD}{text}\n")
    with pytest.raises(CtkitError) as caught:
        entry = Registry().find(kind, "p.py:Mine", tmp_path)  # type: ignore[arg-type]  # a kind
        Chosen(entry, entry.load().params_type()).build()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_they_are_many() -> None:
    assert len(WRONG) >= 35
