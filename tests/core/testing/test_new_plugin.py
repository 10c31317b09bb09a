"""``ctkit new-plugin``: each package that it writes installs, is listed, and passes its own tests as it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from ctkit.errors import RequestError
from ctkit.hookspecs import Kind
from ctkit.testing.new_plugin import write_plugin

KINDS: tuple[Kind, ...] = get_args(Kind)


def run(*command: str | Path, path: Path) -> str:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, env=environment, cwd=path.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package of each kind, and all of them installed into ``site``."""
    folder = tmp_path_factory.mktemp("packages")
    for kind in KINDS:
        write_plugin(kind, f"my-{kind}", folder / kind)
    site = folder / "site"
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run("-m", "pip", "install", *offline, "--target", site, *(folder / kind for kind in KINDS), path=site)
    return folder


def test_every_kind_is_listed_once_installed(packages: Path) -> None:
    listed = json.loads(run("-m", "ctkit", "list-plugins", "--json", path=packages / "site"))
    ours = {(entry["kind"], entry["name"], entry["status"]) for entry in listed if entry["name"].startswith("my-")}
    assert ours == {(kind, f"my-{kind}", "ok") for kind in KINDS}


def test_every_package_passes_its_own_tests(packages: Path) -> None:
    tests = [packages / kind / "tests" for kind in KINDS]
    options = ("-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib", "-q")
    assert "22 passed" in run("-m", "pytest", *options, *tests, path=packages / "site")


@pytest.mark.parametrize("kind", KINDS)
def test_every_package_is_well_styled_for_whoever_goes_on_from_there(packages: Path, kind: Kind) -> None:
    settings = ("--isolated", "--no-cache", "--line-length", "120", ".")
    run("-m", "ruff", "format", "--check", *settings, path=packages / kind / "none")
    run("-m", "ruff", "check", "--select", "E,F,W,I,B,UP,RUF,N,PT,SIM", *settings, path=packages / kind / "none")


@pytest.mark.parametrize("name", ["Mine", "my_hash", "9lives", "-x", "x--y", ""])
def test_a_name_that_no_plugin_may_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="lower-case words joined by hyphens, such as my-hash"):
        write_plugin("reducer", name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(RequestError, match="is not empty; give another folder with --out"):
        write_plugin("reducer", "mine", tmp_path)


def test_the_command_says_what_it_wrote_and_refuses_a_name_that_is_taken(ctkit, tmp_path: Path) -> None:
    done = ctkit("new-plugin", "reducer", "mine")
    written = [tmp_path / line for line in done.stdout.splitlines()[:-1]]
    assert len(written) == 6
    assert all(path.is_file() for path in written)
    assert done.stdout.splitlines()[-1] == "next: pip install --editable ctkit-mine, then: pytest ctkit-mine"
    done = ctkit("new-plugin", "reducer", "hash")
    assert done.returncode == 2
    assert done.stderr == "ctkit: there is already a reducer 'hash', of ctkit-ssl; choose another name\n"
