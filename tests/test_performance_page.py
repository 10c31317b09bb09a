"""The table of docs/performance.md, whose rows benchmarks replace."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import performance_page

TABLE = f"""# Performance

{performance_page._HEAD}
|---|---|---|---|---|---|
| `a.py` | old | b | l | 1 | m |
| `c.py` | stays | b | l | 2 | m |

After.
"""


def row(measure: str) -> performance_page.Row:
    return performance_page.Row(measure, "baseline", "limit", "3")


def test_a_script_replaces_its_own_rows_alone(tmp_path: Path) -> None:
    file = tmp_path / "performance_page.md"
    file.write_text(TABLE)
    performance_page.write("a.py", [row("first"), row("second")], file)
    performance_page.write("new.py", [row("third")], file)
    cells = [line.split(" | ")[:2] for line in file.read_text().splitlines() if line.startswith("| `")]
    assert cells == [["| `a.py`", "first"], ["| `a.py`", "second"], ["| `c.py`", "stays"], ["| `new.py`", "third"]]
    assert file.read_text().startswith("# Performance\n")
    assert file.read_text().endswith("|\n\nAfter.\n")


def test_the_page_of_the_documentation_has_the_table(tmp_path: Path) -> None:
    copy = tmp_path / "performance.md"
    copy.write_text(performance_page.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    performance_page.write("some.py", [row("one")], copy)
    assert copy.read_text(encoding="utf-8").count("| `some.py` | one | baseline | limit | 3 | ") == 1


@pytest.mark.parametrize(("values", "words"), [([3.0, 1.0, 2.0], "2.0 (1.0 to 3.0)"), ([1.0, 2.0], "1.5 (1.0 to 2.0)")])
def test_a_ratio_is_a_median_with_its_range(values: list[float], words: str) -> None:
    assert performance_page.ranged(values) == words
