"""How a page says what would repeat the run, without paths and names."""

from __future__ import annotations

import tomllib

from ctkit import redaction
from ctkit_reports.sections.provenance import as_toml, command_line


def test_the_command_names_the_pipeline_file_by_a_placeholder() -> None:
    command = [
        "ctkit",
        "run",
        "Doe.toml",
        "--set",
        "dataset.root=/data",
        "--set",
        "dataset.size=64",
        "--until",
        "report",
        "--out",
    ]
    assert command_line([*command, "/x/doe john"]) == (
        "ctkit run PIPELINE.toml --set dataset.root=… --set dataset.size=64 --until report --out …"
    )
    assert command_line(["ctkit", "reduce", "mueller", "--dataset", "dicom"]) == "ctkit reduce … --dataset …"


def test_the_resolved_pipeline_is_toml_again() -> None:
    pipeline = {
        "run": {"name": "a", "seeds": 3, "out": "/x"},
        "report": {"images": True},
        "reduce": [{"id": "r", "steps": [{"use": "hash", "threshold": 6.5}], "keep": {"like": "all", "share": None}}],
        "pretrain": [],
    }
    assert tomllib.loads(as_toml(pipeline)) == {
        "run": {"name": "a", "seeds": 3, "out": redaction.HIDDEN},
        "report": {"images": True},
        "reduce": [{"id": "r", "steps": [{"use": "hash", "threshold": 6.5}], "keep": {"like": "all"}}],
    }
