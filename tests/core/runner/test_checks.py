"""What is missing is found before anything is started, all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ctkit import plugins
from ctkit.contracts import Plugin
from ctkit.errors import DataError, RequestError
from ctkit.hookspecs import hookimpl
from ctkit_reducers.hash import Hash

Run = Callable[..., tuple[int, str, str]]

STUDY = """
[run]
name = "small"
[compute]
workers = 1
[report]
images = false
[dataset]
use = "phantom"
patients = 2
slices = 6
matrix = 64
[[reduce]]
use = "all"
[[reduce]]
id = "near"
use = "hash"
threshold = 4
[[reduce]]
id = "far"
use = "hash"
threshold = 12
[[pretrain]]
use = "mean"
[[baseline]]
use = "mean"
id = "start"
mood = "raises"
[[task]]
use = "coins"
protocol = "guess"
"""
STARTS = (("run", "p.toml"), ("run", "p.toml", "--dry-run"), ("validate", "p.toml"))


@pytest.fixture
def study(tmp_path: Path, toys: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let plugins say that something is missing."""

    def _lacking(check: Callable[[Plugin, str | None], object], *classes: type[Plugin]) -> None:
        for one in classes or (Hash, *(plugins.load_target(f"toys:{name}") for name in ("Mean", "Coins", "Guess"))):
            monkeypatch.setattr(one, "check", check)

    return _lacking


@pytest.mark.parametrize("words", STARTS, ids=" ".join)
def test_all_that_is_missing_is_said_at_once_and_nothing_is_started(
    study: Path, command: Run, lacking: Callable[..., None], words: tuple[str, ...]
) -> None:
    lacking(lambda self, device: [f"no {type(self).__name__} in /data; fetch it", "no more"])
    before = sorted(study.rglob("*"))
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"ctkit: {whose}: {fault}"
        for whose, name in (
            ("arm 'near' and arm 'far', reducer 'hash'", "Hash"),
            ("task 'coins'", "Coins"),
            ("pretrain 'mean', method 'mean'", "Mean"),
            ("baseline 'start', method 'mean'", "Mean"),
            ("task 'coins', protocol 'guess'", "Guess"),
        )
        for fault in (f"no {name} in /data; fetch it", "no more")
    ]
    assert [path for path in sorted(study.rglob("*")) if "__pycache__" not in path.parts] == [
        path for path in before if "__pycache__" not in path.parts
    ]


def test_an_error_in_a_check_is_one_thing_that_is_missing(
    study: Path, command: Run, lacking: Callable[..., None]
) -> None:
    def raises(self: Plugin, device: str | None) -> Iterator[str]:
        yield "no weights"
        raise DataError("the disk is gone")

    def breaks(self: Plugin, device: str | None) -> None:
        raise ZeroDivisionError("division by zero")

    lacking(raises, Hash)
    lacking(breaks, plugins.load_target("toys:Coins"))
    code, _, err = command("validate", "p.toml")
    assert code == 2
    assert err.splitlines() == [
        "ctkit: arm 'near' and arm 'far', reducer 'hash': no weights",
        "ctkit: arm 'near' and arm 'far', reducer 'hash': the disk is gone",
        "ctkit: task 'coins': failed in check: ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ((), {"Hash", "Coins", "Mean", "Guess"}),
        (("--until", "scan"), set()),
        (("--until", "describe"), {"Hash"}),
        (("--until", "materialise"), {"Hash", "Coins"}),
        (("--until", "pretrain"), {"Hash", "Coins", "Mean"}),
        (("--only", "arm=all"), {"Coins", "Mean", "Guess"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_only_what_a_start_uses_is_asked(
    study: Path, command: Run, lacking: Callable[..., None], options: tuple[str, ...], left: set[str]
) -> None:
    lacking(lambda self, device: [f"<{type(self).__name__}>"])
    code, _, err = command("run", "p.toml", *options)
    assert code == (2 if left else 0)
    assert {name for name in ("Hash", "Coins", "Mean", "Guess") if f"<{name}>" in err} == left


def test_what_is_cached_needs_no_weights(study: Path, command: Run, lacking: Callable[..., None]) -> None:
    (study / "p.toml").write_text(STUDY.replace('mood = "raises"', ""))
    assert command("run", "p.toml")[0] == 0
    everything = [Hash, *(plugins.load_target(f"toys:{name}") for name in ("Mean", "Guess"))]
    lacking(lambda self, device: [f"no {type(self).__name__}"], *everything)
    assert "nothing to do" in " ".join(map(str, command("run", "p.toml")))
    code, _, err = command("run", "p.toml", "--set", "pretrain.mean.unlucky=7")
    assert (code, err.splitlines()) == (
        2,
        ["ctkit: pretrain 'mean', method 'mean': no Mean", "ctkit: task 'coins', protocol 'guess': no Guess"],
    )
    assert command("run", "p.toml", "--set", "dataset.seed=1")[2].count("\n") == 3


def test_the_device_is_said_where_it_is_known(study: Path, command: Run, lacking: Callable[..., None]) -> None:
    asked: list[str | None] = []

    def notes(self: Plugin, device: str | None) -> tuple[()]:
        asked.append(device)
        return ()

    lacking(notes, Hash)
    command("validate", "p.toml")
    command("validate", "p.toml", "--set", "compute.device=cpu")
    command("run", "p.toml", "--until", "scan")
    command("run", "p.toml", "--until", "describe")
    command("run", "p.toml", "--dry-run")
    assert asked == [None, "cpu", "cpu", "cpu"]


def test_a_cache_that_cannot_be_written_is_found(study: Path, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTKIT_CACHE", str(study / "p.toml" / "cache"))
    code, _, err = command("run", "p.toml")
    assert (code, err) == (
        2,
        f"ctkit: run: cannot write {study}/p.toml/cache: {study}/p.toml is a file; give another folder\n",
    )


@pytest.mark.parametrize(
    ("port", "reason"), [(9, "Connection refused"), (99999, "Port out of range 0-65535")], ids=["silent", "none"]
)
def test_a_scheduler_that_does_not_answer_is_found(study: Path, command: Run, port: int, reason: str) -> None:
    scheduler = f'backend = "dask"\nscheduler = "tcp://127.0.0.1:{port}"'
    (study / "p.toml").write_text(STUDY.replace("workers = 1", scheduler))
    code, _, err = command("validate", "p.toml")
    assert (code, err.count("\n")) == (2, 1)
    assert f"no Dask scheduler answers at tcp://127.0.0.1:{port} ({reason}); start one" in err


def test_a_module_says_by_its_hook_what_is_missing(study: Path, command: Run) -> None:
    module = ModuleType("stranger")
    module.ctkit_check_run = hookimpl(lambda: ["no licence; buy one"])  # type: ignore[attr-defined]  # a hook of it
    module.ctkit_check_run.__name__ = "ctkit_check_run"
    plugins.load().manager.register(module, "theirs:tracker")
    assert command("validate", "p.toml")[::2] == (2, "ctkit: no licence; buy one\n")


def test_a_check_that_gives_no_lines_or_ends_the_program_is_one_thing_that_is_missing(
    study: Path, command: Run, lacking: Callable[..., None]
) -> None:
    def leaves(self: Plugin, device: str | None) -> None:
        raise SystemExit(3)

    module = ModuleType("stranger")
    module.ctkit_check_run = hookimpl(lambda: "no licence")  # type: ignore[attr-defined]  # a hook of it
    module.ctkit_check_run.__name__ = "ctkit_check_run"
    plugins.load().manager.register(module, "theirs:tracker")
    lacking(lambda self, device: "no weights", Hash)
    lacking(lambda self, device: None, plugins.load_target("toys:Mean"))
    lacking(leaves, plugins.load_target("toys:Coins"))
    code, _, err = command("validate", "p.toml")
    wrong = "check must return lines, () for none, but returned"
    assert (code, err.splitlines()) == (
        2,
        [
            f"ctkit: a plugin's ctkit_check_run: {wrong} 'no licence'; return a list of strings",
            f"ctkit: arm 'near' and arm 'far', reducer 'hash': {wrong} 'no weights'; return a list of strings",
            "ctkit: task 'coins': failed in check: SystemExit: 3",
            f"ctkit: pretrain 'mean', method 'mean': {wrong} None; return a list of strings",
            f"ctkit: baseline 'start', method 'mean': {wrong} None; return a list of strings",
        ],
    )


def test_a_wrong_request_that_shows_after_the_start_has_exit_code_1(
    study: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: Plugin) -> None:
        raise RequestError("the folder is gone")

    monkeypatch.setattr(plugins.load_target("toys:Coins"), "files", gone)
    code, _, err = command("run", "p.toml")
    assert code == 1
    assert "ctkit: the folder is gone" in err
