"""The wheel without its extras: slices are chosen without torch, and what needs an extra says which."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements import brought_by

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TRAIN = "pip install 'ctkit-ssl[train]'"
HEAVY = {
    *("torch", "torchvision", "lightly", "pytorch-lightning", "monai", "scikit-learn", "scikit-image", "tensorboard"),
    *("dask", "distributed", "timm", "onnx", "mlflow-skinny", "wandb"),
}
NEEDY = {
    *("embedding", "k-center", "semdedup", "simclr", "moco", "swav", "byol", "untrained", "linear", "knn", "finetune"),
    "segment",
    *("export", "barlow-twins"),
}

TRACKERS = ("needs mlflow", "needs wandb")

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def requirements(repository: Path) -> list[str]:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]["dependencies"]


@pytest.fixture(scope="module")
def light(new_environment, tmp_path_factory, ctkit_wheel, every_kth_wheel, barlow_twins_wheel, requirements):
    """An environment with ctkit's own requirements alone, and two plugins of others: one that trains, one not."""
    found = new_environment(tmp_path_factory.mktemp("light"), requirements)
    for wheel in (ctkit_wheel, every_kth_wheel, barlow_twins_wheel):
        found.install(wheel)
    return found


@pytest.fixture
def call(light, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls ``ctkit`` of the light environment in a folder of its own, to whatever end."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def _call(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [light.scripts / "ctkit", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return _call


def test_it_brings_nothing_that_trains(requirements: list[str]) -> None:
    assert brought_by(requirements) & HEAVY == set()
    assert len(brought_by(requirements)) < 45


def test_the_environment_of_these_tests_has_what_the_wheel_requires_and_no_more(light, requirements) -> None:
    code = "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"
    found = {canonicalize_name(name) for name in light.run(light.python, "-c", code).stdout.split()}
    assert found == brought_by(requirements) | {"ctkit-ssl", "ctkit-every-kth", "ctkit-barlow-twins"}


def test_plugins_that_need_an_extra_are_listed_with_it(call: Call) -> None:
    listed = json.loads(call("list-plugins", "--json").stdout)
    assert {one["name"] for one in listed if one["status"] == "needs train"} == NEEDY
    assert {one["status"] for one in listed} == {"ok", "needs train", *TRACKERS}
    assert {one["error"] for one in listed if one["name"] in NEEDY} == {f"packages are missing: {TRAIN}"}


def test_every_plugin_is_described(light, tmp_path: Path) -> None:
    code = """
from ctkit import plugins
from ctkit.cli.description import describe_plugin
for entry in plugins.load().entries:
    if entry.kind in plugins.KINDS:
        print(describe_plugin(entry).partition(" (")[0])
"""
    described = light.run(light.python, "-W", "error", "-c", code, cwd=tmp_path).stdout.splitlines()
    assert {"method simclr", "method barlow-twins", "reducer k-center", "protocol finetune"} <= set(described)


def test_pipelines_are_written_validated_and_completed_by_editors(call: Call) -> None:
    assert call("init", "first.toml").returncode == 0
    for file in ("first.toml", *sorted(EXAMPLES.glob("*.toml"))):
        done = call("validate", file)
        assert (done.returncode, "valid (" in done.stdout) == (0, True), done.stderr
        asked = done.stderr.replace("\n", " ")
        assert (TRAIN in asked) == (Path(file).name != "selection.toml")
    methods = json.loads(call("schema").stdout)["properties"]["pretrain"]["items"]["anyOf"]
    assert {"#/$defs/simclr", "#/$defs/barlow-twins"} <= {method["$ref"] for method in methods}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", EXAMPLES / "quickstart.toml"], f"'simclr', method 'untrained', protocol 'linear', .*: {TRAIN}"),
        (["run", EXAMPLES / "quickstart.toml", "--dry-run"], TRAIN),
        (["run", EXAMPLES / "selection.toml", "--set", "compute.backend=dask"], "pip install 'ctkit-ssl[dask]'"),
        (
            ["export", "runs/selection", "--format", "onnx", "--out", "out"],
            f"command 'export' of ctkit-ssl: packages are missing: {TRAIN}",
        ),
        (["reduce", "--dataset", "phantom", "--reducer", "k-center", "-p", "radius=0.1", "--out", "out"], TRAIN),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_needs_an_extra_is_refused_at_the_door_in_one_line(
    call: Call, tmp_path: Path, words: list[str], said: str
) -> None:
    done = call(*words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert all(part in done.stderr for part in said.split(".*"))
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_that_ends_with_the_selection_is_run_with_its_report(call: Call, tmp_path: Path) -> None:
    sizes = ("dataset.patients=1", "dataset.slices=12", "dataset.matrix=64", "compute.workers=1")
    small = (*(word for size in sizes for word in ("--set", size)), "--quiet")
    done = call("run", EXAMPLES / "selection.toml", *small)
    assert (done.returncode, done.stderr) == (0, "")
    assert "<svg" in (tmp_path / "runs/selection/report.html").read_text()
    done = call("run", EXAMPLES / "quickstart.toml", "--until", "select", *small)
    assert (done.returncode, done.stderr) == (0, "")
    out = ("--format", "dicom", "--out", "out")
    assert "phantom" in call("export-slices", "runs/selection", "hash", *out).stderr  # which has no files
    assert call("curve", "runs/selection", "hash").returncode == 0


def test_a_reducer_of_others_chooses_without_a_pipeline_file(call: Call, tmp_path: Path) -> None:
    words = (
        "reduce",
        "--dataset",
        "phantom",
        "-d",
        "patients=1",
        "-d",
        "slices=12",
        "--reducer",
        "every-kth",
        "-p",
        "k=5",
        "--quiet",
    )
    done = call(*words, "--out", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/report.html").is_file()


def test_with_the_extra_nothing_is_missing(
    new_environment, ctkit_wheel, barlow_twins_wheel, requirements, repository: Path, tmp_path: Path
) -> None:
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    environment = new_environment(
        tmp_path / "environment", [*requirements, *map(str, map(Requirement, extras["train"]))]
    )
    for wheel in (ctkit_wheel, barlow_twins_wheel):
        environment.install(wheel)
    listed = json.loads(environment.ctkit("list-plugins", "--json", cwd=tmp_path))
    assert {one["status"] for one in listed} == {"ok", *TRACKERS}
    (tmp_path / "p.toml").write_text(TRAINING)
    environment.ctkit("run", "p.toml", "--quiet", "--until", "pretrain", cwd=tmp_path)
    assert (tmp_path / "runs/p/arms/all/barlow-twins/seed-42/backbone.safetensors").is_file()


TRAINING = """\
[run]
name = "p"
[compute]
workers = 1
[dataset]
use = "phantom"
patients = 2
slices = 8
size = 32
matrix = 32
[[reduce]]
use = "all"
[[pretrain]]
use = "barlow-twins"
backbone = "resnet18"
size = 32
batch = 8
steps = 1
width = 16
[[task]]
use = "phantom-regions"
size = 32
protocol = ["knn"]
"""
