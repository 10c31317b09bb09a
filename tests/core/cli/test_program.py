"""Exit codes, and errors of one line that say what would be right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["rnu", "p.toml"], 2, "there is no command 'rnu'; did you mean 'run'?"),
        (["run"], 2, "Missing argument 'FILE'"),
        (["run", "none.toml"], 2, "cannot read the pipeline file none.toml: No such file or directory"),
        (["run", "p.toml", "--untl", "scan"], 2, "No such option"),
        (["run", "p.toml", "--until", "scna"], 2, "scna"),
        (["run", "p.toml", "--set", "dataset.sise=3"], 2, "dataset.sise: unknown key; did you mean 'size'?"),
        (["run", "p.toml", "--out", "p.toml/x"], 2, "p.toml is a file; give another folder"),
        (["describe", "reducer", "hsah"], 2, "there is no reducer 'hsah'; did you mean 'hash'?"),
        (["report", "nowhere"], 2, "nowhere is not a run folder: it has no run.json"),
        (["run", "p.toml", "--set", "compute.device=cuda"], 2, "shows no CUDA device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_is_one_line_with_its_exit_code(
    folder: Path, command: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.setattr("ctkit.compute.devices.cuda_devices", lambda: 0)
    left, _, err = command(*words)
    assert left == code
    assert message in err
    assert err.startswith("ctkit: ")
    assert err.count("\n") == 1


def test_a_traceback_is_shown_on_request_only(folder: Path, command: Run) -> None:
    assert "Traceback" not in command("run", "none.toml")[2]
    assert "Traceback" in command("run", "none.toml", "--debug")[2]
