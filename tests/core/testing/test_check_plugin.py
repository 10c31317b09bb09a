"""``ctkit check-plugin``, ``new-plugin --single-file``, and the checks as cases of pytest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from ctkit.contracts import Decision, Group, NoParams, Reducer, Slices
from ctkit.errors import RequestError
from ctkit.hookspecs import Kind
from ctkit.testing import Check, NonConformance, checks_of, parametrize_with_checks
from ctkit.testing.new_plugin import write_plugin
from ctkit_reducers.controls import EveryN, EveryNParams

Command = Callable[..., tuple[int, str, str]]
KINDS: tuple[Kind, ...] = get_args(Kind)

WRONG = '''\
import numpy as np
from ctkit.contracts import Decision, NoParams, Reducer

class Wrong(Reducer[NoParams]):
    evidence = "slice"

    def __init__(self, params=None):
        super().__init__(params)
        self.table = {}

    def describe(self, slices):
        raise BaseException("describe is not done")

    def select(self, group, at, rng):
        return Decision(np.ones(len(group), bool))

class Right(Reducer[NoParams]):
    """Keeps all."""

    def select(self, group, at, rng):
        return Decision(np.ones(len(group), bool))
'''


@parametrize_with_checks(EveryN, checks_of(EveryN, EveryNParams(n=3)))
def test_each_check_is_a_case(check: Check) -> None:
    check()


def test_cases_are_named_after_plugin_and_check() -> None:
    names = [case.id for case in parametrize_with_checks(EveryN).args[1]]
    assert names[:2] == ["EveryN-class", "EveryN-parameter-model"]
    assert "EveryN-choices" in names


def test_what_is_no_plugin_is_refused() -> None:
    with pytest.raises(NonConformance, match="must be a subclass of one of the classes in ctkit.contracts"):
        checks_of(Path)  # type: ignore[arg-type]  # the mistake


def test_what_several_checks_need_is_made_once() -> None:
    calls: list[int] = []

    class Costly(Reducer[NoParams]):
        """Counts."""

        evidence = "slice"

        def describe(self, slices: Slices) -> Any:
            calls.append(len(slices.index))
            raise ValueError("no")

        def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
            return Decision(np.ones(len(group), bool))

    failed = []
    for check in checks_of(Costly):
        try:
            check()
        except NonConformance as error:
            failed.append((check.name, str(error)))
    assert len(calls) == 1
    assert {"evidence", "purity", "choices", "order"} <= {name for name, _ in failed}
    assert len({text for _, text in failed if "ValueError: no was raised; correct it" in text}) == 1


def test_every_broken_promise_of_a_file_is_shown(tmp_path: Path, command: Command) -> None:
    (tmp_path / "p.py").write_text(WRONG)
    code, out, err = command("check-plugin", str(tmp_path / "p.py"))
    assert code == 1
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0].startswith("reducer 'Wrong' of p.py (")
    assert "Wrong: a plugin must have a docstring, which `ctkit describe` shows, but it has none; write one" in lines
    assert any("it also sets table; compute it where it is used" in line for line in lines)
    assert any("BaseException: describe is not done was raised; correct it" in line for line in lines)
    assert any(line.startswith("not checked") for line in lines)
    right = next(number for number, line in enumerate(lines) if line.startswith("reducer 'Right'"))
    assert all(line.startswith("ok ") for line in lines[right + 1 :])
    assert err.startswith("ctkit: 3 of ")
    assert command("check-plugin", f"{tmp_path / 'p.py'}:Right")[0] == 0


def test_an_installed_plugin_is_checked_with_parameters(command: Command) -> None:
    code, out, _ = command("check-plugin", "every-n", "-p", "n=3")
    assert code == 0
    assert "It must be announced by a proper name and summary" in out
    code, _, err = command("check-plugin", "every-n", "-p", "n=x", "-p", "m=1")
    assert code == 2
    assert "-p n: must be" in err
    assert "-p m: unknown key; valid: n" in err
    assert "-p needs KEY=VALUE, such as threshold=4, but is 'n'" in command("check-plugin", "every-n", "-p", "n")[2]
    assert "there is no plugin 'every'; did you mean" in command("check-plugin", "every")[2]
    assert "-p root: is required but missing" in command("check-plugin", "dicom")[2]


# --- single files -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a single file of each kind."""
    folder = tmp_path_factory.mktemp("files")
    for kind in KINDS:
        assert write_plugin(kind, f"my-{kind}", folder, single_file=True) == [folder / f"my_{kind}.py"]
    return folder


def test_every_single_file_is_well_styled(files: Path) -> None:
    for words in (("format", "--check"), ("check", "--select", "E,F,W,I,B,UP,RUF,N,PT,SIM")):
        settings = ("--isolated", "--no-cache", "--line-length", "120", str(files))
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, *settings], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", ["reducer", "tracker"])
def test_a_single_file_passes_the_checks_as_it_stands(files: Path, command: Command, kind: str) -> None:
    code, out, err = command("check-plugin", str(files / f"my_{kind}.py"))
    assert code == 0, out + err


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_is_listed_and_described(files: Path, command: Command, kind: str) -> None:
    path = files / f"my_{kind}.py"
    listed = command("list-plugins", "--kind", kind, "--file", str(path))[1].splitlines()
    assert sum(line.split()[1] == f"My{kind.capitalize()}" for line in listed) == 1
    assert command("describe", f"{path}:My{kind.capitalize()}")[1].startswith(
        f"{kind} My{kind.capitalize()} (my_{kind}.py "
    )
    assert command("describe", str(path)) == command("describe", kind, str(path))


def test_a_single_file_is_not_written_over(files: Path) -> None:
    with pytest.raises(RequestError, match=r"my_task.py exists; choose another name"):
        write_plugin("task", "my-task", files, single_file=True)
