"""Run by MkDocs: writes the reference of plugins from the models that validate a pipeline file."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ctkit.cli.description import parameters, scopes
from ctkit.contracts import Plugin, Reducer
from ctkit.plugins import Entry, load

_HEADINGS = {
    "dataset": "Data sets",
    "reducer": "Reducers",
    "method": "Methods",
    "task": "Tasks",
    "protocol": "Protocols",
    "tracker": "Trackers",
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Add the built-in plugins to their page, and to the page on Python its notebook."""
    if page.file.src_uri == "python.md":
        return markdown + notebook(Path(page.file.abs_src_path).with_suffix(".ipynb"))
    if page.file.src_uri != "plugin-reference.md":
        return markdown
    return markdown + plugin_reference(entry for entry in load().entries if entry.distribution == "ctkit-ssl")


def notebook(path: Path) -> str:
    """Return the cells of a notebook as Markdown, its title as a heading below that of the page."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ((cell["cell_type"] == "code", "".join(cell["source"])) for cell in cells)
    return "\n\n".join(f"```python\n{text}\n```" if code else text.replace("# ", "## ", 1) for code, text in texts)


def plugin_reference(entries: Iterable[Entry]) -> str:
    """Return a page of Markdown on plugins: what each does, and a table of its parameters."""
    lines: list[str] = []
    told = sorted(entries, key=lambda entry: entry.name)
    for kind, heading in _HEADINGS.items():
        lines += [f"## {heading}", ""]
        for entry in (entry for entry in told if entry.kind == kind):
            plugin = entry.load()
            lines += [f"### `{entry.name}`", "", inspect.getdoc(plugin) or "", ""]
            if issubclass(plugin, Reducer):
                lines += [f"{scopes(plugin)}.  ", ""]
            lines += _table(plugin)
    return "\n".join(lines)


def _table(plugin: type[Plugin[Any]]) -> Iterator[str]:
    rows = [(f"`{name}`", *others) for name, *others in parameters(plugin)]
    if not rows:
        yield from ("It has no parameters.", "")
        return
    yield from ("| parameter | values | default | meaning |", "|---|---|---|---|")
    for row in rows:
        cells = (cell.replace("|", r"\|").replace("<", "&lt;") for cell in row)
        yield f"| {' | '.join(cells)} |"
    yield ""
