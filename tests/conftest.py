"""What every test may use."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ctkit import main
from requirements import brought_by

# A test that times out on a busy machine says nothing.
settings.register_profile("ctkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ctkit")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as shells start background jobs; tests of Ctrl-C would hang
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """Spare the garbage collector the million objects of the libraries: walking them takes a third of a second."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the interpreter end as it would have."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real scans; the test is skipped where there is none."""
    folder = Path(os.environ.get("CTKIT_REAL_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip("no real scans: set CTKIT_REAL_DATA to a folder that holds them")
    return folder


@pytest.fixture
def ctkit(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the ``ctkit`` command with arguments, in ``tmp_path``, to whatever end."""
    script = Path(sysconfig.get_path("scripts"), "ctkit")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(part) for part in (script, *arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


SMALL = """\
[run]
name = "small"
[compute]
workers = 1
[dataset]
use = "phantom"
patients = 2
slices = 12
size = 32
matrix = 32
[[reduce]]
use = "all"
[[reduce]]
id = "hash6"
use = "hash"
[[reduce]]
use = "random"
keep = { like = "hash6" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small pipeline file, ``p.toml``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)
    (tmp_path / "p.toml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the ``ctkit`` command in this process; returns its exit code and what it printed."""

    def _command(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(list(words))
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return _command


class Environment:
    """A virtual environment of its own. It sees libraries of the outer one, but its ctkit only once installed.

    It sees them all, or those that requirements bring, such as ["numpy>=2"].
    """

    def __init__(self, folder: Path, requirements: Sequence[str] | None = None) -> None:
        venv.create(folder, symlinks=os.name != "nt")
        self.scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.scripts / "python"
        site = self.run(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
        outer = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        if requirements is not None:
            outer = [str(folder / "libraries")]
            _link_libraries(brought_by(requirements), folder / "libraries")
        (Path(site) / "outer.pth").write_text("\n".join(outer))

    def run(self, *command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; the test fails with what it printed where it fails."""
        done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def pip(self, *arguments: str | Path) -> None:
        """Run the outer pip on this environment."""
        self.run(sys.executable, "-m", "pip", "--python", self.python, *arguments)

    def install(self, wheel: Path) -> None:
        """Install one wheel as it is, without looking for anything else."""
        self.pip("install", "--no-index", "--no-deps", "--ignore-installed", wheel)

    def ctkit(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run this environment's ``ctkit`` and return what it printed."""
        return self.run(self.scripts / "ctkit", *arguments, cwd=cwd).stdout


def _link_libraries(names: Iterable[str], folder: Path) -> None:
    """Make a folder of links to the packages and metadata of installed distributions."""
    folder.mkdir()
    for found in map(metadata.distribution, names):
        for part in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / part).exists():  # several may share a namespace
                (folder / part).symlink_to(found.locate_file(part))


@pytest.fixture(scope="session")
def new_environment() -> type[Environment]:
    """Makes a fresh virtual environment in a folder."""
    return Environment


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """A fresh virtual environment."""
    return Environment(tmp_path / "environment")


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of a source tree, without the network."""
    command = ["wheel", "--no-build-isolation", "--no-index", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def ctkit_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree."""
    return build_wheel(REPOSITORY, tmp_path_factory.mktemp("ctkit-wheel"))


@pytest.fixture(scope="session")
def every_kth_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the example plugin."""
    return build_wheel(REPOSITORY / "examples" / "ctkit-every-kth", tmp_path_factory.mktemp("every-kth-wheel"))


@pytest.fixture(scope="session")
def kept_share_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the example command."""
    return build_wheel(REPOSITORY / "examples" / "ctkit-kept-share", tmp_path_factory.mktemp("kept-share-wheel"))


@pytest.fixture(scope="session")
def barlow_twins_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the example method."""
    return build_wheel(REPOSITORY / "examples" / "ctkit-barlow-twins", tmp_path_factory.mktemp("barlow-twins-wheel"))
