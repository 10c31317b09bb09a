"""``ctkit export`` and ``export-slices``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(("name", "lines"), [("export", "timm         NAME/"), ("export-slices", "dicom  links to")])
def test_the_help_of_an_export_lists_formats_line_by_line(command: Run, name: str, lines: str) -> None:
    _, out, _ = command(name, "--help")
    assert f"\n  {lines}" in out
