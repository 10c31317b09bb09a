"""Texts of headers that may be told: what scanners write, and nothing that people type."""

from __future__ import annotations

import pytest

from ctkit_datasets.dicom_terms import known_kernel, known_manufacturer, known_modality, known_syntax

NAMES = ("Jane Doe", "DOE^JANE", "MUSTERMANN", "Doe 3", "JD45", "J56", "19450312", "PAT-004711", "Müller", "Bone Jane")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        *((name, name) for name in "B30f B45s H60s U90u T80f D30f J30s Br40 Qr36 Bl57d Sa36f".split()),  # noqa: SIM905
        *((name, name) for name in ("I30f 3", "STANDARD", "BONEPLUS", "LUNG", "STD+", "HD STANDARD", "FC51", "FC18-H")),
        *((name, name) for name in ("B", "YB", "UB", "EC", "B_SOFT_B", "B_VSHARP_C", "")),
        ("Br40d\\3", "Br40d"),
        ("Br40d\\Jane Doe", "Br40d"),
        *((name, "other") for name in NAMES),
    ],
)
def test_a_kernel_is_told_as_scanners_name_it(text: str, told: str) -> None:
    assert known_kernel(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "SIEMENS",
        "Siemens Healthineers",
        "GE MEDICAL SYSTEMS",
        "Philips",
        "TOSHIBA_MEC",
        "CANON_MEC",
        "UIH",
        "FUJIFILM",
        "Hitachi Medical Corporation",
        "Philips Medical Systems, Inc.",
        "Shanghai United Imaging Healthcare Co., Ltd.",
    ],
)
def test_a_manufacturer_is_told_as_headers_spell_it(text: str) -> None:
    assert known_manufacturer(text) == text


@pytest.mark.parametrize("text", [*NAMES, "Siemens, Jane Doe", "GE DOE", "SIEMENS 19450312", "Jane Siemens"])
def test_a_manufacturer_that_nobody_knows_is_another(text: str) -> None:
    assert known_manufacturer(text) == "other"


def test_modalities_are_those_of_the_standard() -> None:
    assert [known_modality(code) for code in ("CT", "RTSTRUCT", "unknown")] == ["CT", "RTSTRUCT", "unknown"]
    assert {known_modality(name.upper()) for name in NAMES} == {"other"}


def test_numbers_in_place_of_a_transfer_syntax_are_not_told() -> None:
    for uid in ("1.2.840.10008.1.2.4.100", "1.2.840.113619.5.2", "1.2.840.10008.1.2"):
        assert known_syntax(uid) == uid
    for uid in ("1.2.840.10008.1.2.19450312", "19450312", "1.2.3.4", "1.2.840.10008.1.2.1.1.1.1"):
        assert known_syntax(uid) == "of a damaged name"
