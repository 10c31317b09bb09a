from __future__ import annotations

import pytest

from ctkit.console.redaction import HIDDEN, redacted, without_paths


@pytest.mark.parametrize(
    ("key", "value"),
    [("root", "data"), ("scheduler", "tcp://host:8786"), ("weights", "resnet"), ("only", "LIDC-IDRI-0078"),
     ("only", "pat-0078"), ("since", "2001-02-03"), ("name", "/data/run"), ("note", "J. Doe"), ("include", "doe-j")],
)  # fmt: skip
def test_what_may_name_a_patient_or_a_path_is_hidden(key: str, value: str) -> None:
    assert redacted({key: value}) == {key: HIDDEN}
    assert redacted({key: [value]}) == {key: [HIDDEN]}


@pytest.mark.parametrize(
    ("key", "value"),
    [("use", "ctkit-ssl:lidc-idri"), ("id", "HASH-6"), ("like", "hash6"), ("intensity", "hu-window"),
     ("backbone", "resnet50"), ("precision", "bf16-mixed"), ("threshold", 6),
     ("images", False), ("keep", None), ("name", "study_2")],
)  # fmt: skip
def test_what_a_reader_needs_is_shown(key: str, value: object) -> None:
    assert redacted({key: value}) == {key: value}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("cannot read /data/a b/x.dcm: no pixels", "cannot read …: no pixels"),
        ("there is no /data/CT/Mueller, Hans; look again", "there is no …; look again"),
        ("cannot read '/data/a b/x.dcm'", "cannot read …"),
        (r"empty: C:\scans\Mueller Hans", "empty: …"),
        ("holds 6/10 slices of modality MR/PT", "holds 6/10 slices of modality MR/PT"),
        ("LIDC-IDRI-0078/x.dcm is short", "… is short"),
    ],
)
def test_paths_in_messages_are_hidden(message: str, shown: str) -> None:
    assert without_paths(message) == shown
