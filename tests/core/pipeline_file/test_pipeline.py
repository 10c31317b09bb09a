"""What the address of a plugin's result depends on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ctkit import plugins
from ctkit.pipeline_file.pipeline import Chosen


def chosen(name: str, **parameters: Any) -> Chosen[Any]:
    entry = plugins.load().find("reducer", name)
    return Chosen(entry, entry.load().params_type(**parameters))


def test_a_parameter_changes_the_identity() -> None:
    assert chosen("hash").identity != chosen("hash", bits=256).identity
    assert chosen("hash").identity == chosen("hash", bits=64).identity


def test_a_file_counts_by_size_and_modification_time(tmp_path: Path) -> None:
    backbone = tmp_path / "backbone.safetensors"
    backbone.write_bytes(b"one")
    before = chosen("embedding", backbone=backbone).identity
    assert chosen("embedding", backbone=backbone).identity == before
    os.utime(backbone, ns=(1, 1))
    assert chosen("embedding", backbone=backbone).identity != before


def test_reducers_that_describe_alike_share_their_evidence() -> None:
    shared = chosen("embedding").evidence_identity
    assert chosen("k-center").evidence_identity == shared
    assert chosen("semdedup", clusters=7).evidence_identity == shared
    assert chosen("embedding", size=64).evidence_identity != shared
    assert chosen("hash").evidence_identity != shared


def test_what_only_select_reads_still_counts_for_the_selection() -> None:
    assert chosen("semdedup", clusters=7).identity != chosen("semdedup").identity
    assert chosen("semdedup").identity != chosen("embedding").identity


def test_a_choice_among_volumes_changes_no_result(tmp_path: Path) -> None:
    entry = plugins.load().find("dataset", "dicom")
    few, all_of_them = (
        Chosen[Any](entry, entry.load().params_type(root=tmp_path, max_volumes=most)) for most in (1, None)
    )
    assert few.identity == all_of_them.identity
    assert few.full_identity != all_of_them.full_identity
