"""The notebook of the documentation runs from the first cell to the last, in a Jupyter kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "python.ipynb"


@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_every_cell_runs_and_shows_what_the_text_says(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # ships no types
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = ["".join(_texts(cell)) for cell in notebook.cells if cell.cell_type == "code"]
    assert "'all': (48, 48)" in shown[1]
    assert "hash6" in shown[3]
    assert "accuracy" in shown[3]
    assert "torch.Size([" in shown[5]
    assert ", 512])" in shown[5]
    assert "of 16 slices are near-duplicates of kept ones" in shown[7]
    assert "must be in 0..64 bits" in shown[8]
    assert not [out for cell in notebook.cells for out in cell.get("outputs", ()) if out.get("name") == "stderr"]


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def _texts(cell: dict) -> list[str]:
    return [str(out.get("text") or out["data"]["text/plain"]) for out in cell["outputs"]]
