"""A first pipeline file, and the schema that editors check it with."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from ctkit import plugins
from ctkit.cli.first_file import Wishes, first_file
from ctkit.cli.schema import pipeline_schema
from ctkit.errors import PluginError
from ctkit.runner import pipeline_text


def wishes(**changes: object) -> Wishes:
    fields = {
        "name": "first",
        "dataset": "phantom",
        "root": "",
        "reducers": ("all", "every-n", "hash", "random"),
        "method": "simclr",
        "task": "phantom-lesions",
        "task_root": "",
        "protocols": ("linear",),
    }
    return Wishes(**(fields | changes))  # type: ignore[arg-type]  # a test's shorthand


def test_the_file_is_valid_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(first_file(wishes(), plugins.load()))
    pipeline = pipeline_text.load(path, plugins.load())
    assert [arm.id for arm in pipeline.arms] == ["all", "every-n-10", "hash-6", "random-share-0.1"]
    assert len(pipeline.tasks) == 1


def test_every_comment_is_a_parameter_that_may_be_switched_on(tmp_path: Path) -> None:
    text = first_file(wishes(), plugins.load())
    lines = [
        line[2:] if line.startswith("# ") and " = " in line and " = ..." not in line else line
        for line in text.split("\n")
    ]
    path = tmp_path / "p.toml"
    path.write_text("\n".join(lines))
    assert (
        pipeline_text.load(path, plugins.load()).pretrains[0].method.params
        == pipeline_text.load(path, plugins.load()).pretrains[0].method.build().params
    )


def test_a_part_that_is_not_wanted_is_left_out() -> None:
    document = tomllib.loads(first_file(wishes(method=""), plugins.load()))
    assert set(document) == {"run", "compute", "dataset", "reduce", "report"}


def test_a_folder_is_written_where_a_plugin_has_one() -> None:
    document = tomllib.loads(first_file(wishes(dataset="lidc-idri", root="data"), plugins.load()))
    assert document["dataset"] == {"use": "lidc-idri", "root": "data"}


def test_an_unknown_plugin_is_an_error() -> None:
    with pytest.raises(PluginError, match="did you mean 'phantom'"):
        first_file(wishes(dataset="fantom"), plugins.load())


def test_a_person_is_asked_again_after_a_wrong_answer_and_may_leave_parts_out(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    person, terminal = pty.openpty()
    os.write(person, b"study\nfantom\nlidc-idri\nscans\nall hsah\nall hash\nnone\n")
    command = [sys.executable, "-m", "ctkit", "init", "p.toml"]
    done = subprocess.run(
        command, cwd=tmp_path, stdin=terminal, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "there is no dataset 'fantom'; did you mean 'phantom'?" in done.stdout
    assert "there is no reducer 'hsah'; did you mean 'hash'?" in done.stdout
    document = tomllib.loads((tmp_path / "p.toml").read_text())
    assert document["run"] == {"name": "study"}
    assert document["dataset"] == {"use": "lidc-idri", "root": "scans"}
    assert [arm["use"] for arm in document["reduce"]] == ["all", "hash"]
    assert not {"pretrain", "task"} & document.keys()


def test_the_schema_knows_every_plugin_and_its_knob() -> None:
    schema = pipeline_schema(plugins.load())
    defined = schema["$defs"]
    variants = [one["$ref"].rpartition("/")[2] for one in schema["properties"]["reduce"]["items"]["anyOf"]]
    titles = {defined[name]["title"]: defined[name] for name in variants}
    assert set(titles) == {f"reducer.{entry.name}" for entry in plugins.load().of_kind("reducer")} | {"reduce.steps"}
    reducer = titles["reducer.hash"]["properties"]
    assert reducer["threshold"]["maximum"] == 256
    assert {"keep", "scope", "id", "bits"} <= reducer.keys()
    assert all(defined[name]["additionalProperties"] is False for name in variants)


def test_the_schema_is_valid_and_takes_every_example(repository: Path) -> None:
    schema = pipeline_schema(plugins.load())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    examples = [path for path in repository.glob("examples/**/*.toml") if path.name != "pyproject.toml"]
    assert len(examples) >= 5
    for path in examples:
        validator.validate(tomllib.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "change",
    [{"nonsense": 1}, {"dataset": {"use": "phantom", "siez": 3}}, {"reduce": [{"use": "hash", "threshold": 700}]}],
    ids=["section", "key", "range"],
)
def test_the_schema_refuses_what_a_run_would(change: dict[str, object]) -> None:
    document = tomllib.loads(first_file(wishes(), plugins.load()))
    validator = Draft202012Validator(pipeline_schema(plugins.load()))
    assert validator.is_valid(document)
    assert not validator.is_valid(document | change)


def test_every_reference_in_the_schema_is_defined() -> None:
    schema = pipeline_schema(plugins.load())

    def references(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    assert references(schema) <= {f"#/$defs/{name}" for name in schema["$defs"]}


@pytest.mark.parametrize("method", ["simclr", "moco", "swav", "byol"])
def test_the_training_is_the_short_one_of_its_method_and_is_scored_at_its_size(tmp_path: Path, method: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(first_file(wishes(method=method, protocols=("linear", "knn")), plugins.load()))
    pipeline = pipeline_text.load(path, plugins.load())
    (plan,) = pipeline.pretrains
    first = plugins.load().find("method", method).load().first
    assert {name: getattr(plan.method.params, name) for name in first} == first
    assert plan.method.params.epochs is None
    assert [task.protocol.params.size for task in pipeline.tasks] == [first["size"]] * 2
    assert "# epochs = ...  # passes over the arm" in path.read_text()


def test_a_method_that_names_no_first_training_is_left_at_its_defaults() -> None:
    text = first_file(wishes(method="untrained"), plugins.load())
    table = text[text.index("[[pretrain]]") : text.index("# A backbone for comparison")]
    assert "short training" not in text
    assert [line for line in table.splitlines() if line and line[0] not in "#["] == ['use = "untrained"']
    assert tomllib.loads(text)["task"][0]["protocol"] == ["linear"]
