"""The command prints what the run folder says, and its distribution announces it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from ctkit.testing import check_distribution
from ctkit_kept_share import kept


def test_its_distribution_announces_what_can_be_used() -> None:
    check_distribution("ctkit-kept-share")


def test_it_prints_the_share_of_each_arm(tmp_path: Path) -> None:
    for name, slices in (("all", 24), ("hash6", 6)):
        (tmp_path / "arms" / name).mkdir(parents=True)
        (tmp_path / "arms" / name / "arm.json").write_text(json.dumps({"arm": name, "kept": slices, "slices": 24}))
    assert CliRunner().invoke(kept, [str(tmp_path)]).output == "100.00%  all\n 25.00%  hash6\n"
