"""Run by MkDocs: draws what each reducer keeps of one phantom volume, and how far apart slices are to each of them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mkdocs.structure.files import File
from numpy.typing import NDArray
from PIL import Image

from ctkit.contracts import Reducer, Slices
from ctkit.plugins.registry import load
from ctkit.slices import rendering, selection
from ctkit.slices.selection import Choice, Table
from ctkit_datasets.phantom import Phantom, PhantomParams

KEEP, COLUMNS, SIDE, FRAME = 12, 12, 88, 4
BLUE = (38, 110, 220)
NETWORKED = ("embedding", "k-center", "semdedup")
DRAWN = ("every-n", "random", "hash", "ssim", "mutual-information", "entropy", *NETWORKED)
MEASURED = ("hash", "ssim", "mutual-information", "embedding")
APART = (0, 1, 2, 3, 5, 8, 16)  #: slices


def on_files(files: Any, config: Any) -> Any:
    """Add the figures of the page on choosing slices."""
    for name, content in drawn():
        files.append(File.generated(config, f"figures/{name}", content=content))
    return files


def drawn() -> Iterator[tuple[str, bytes]]:
    """Name and content of every figure."""
    dataset = Phantom(PhantomParams(patients=1, slices=48, matrix=128))
    (volume,) = dataset.arrange(())
    pixels = dataset.read(volume)
    slices = Slices(rendering.evidence(pixels.values), pixels.values, pixels.index)
    shown = rendering.training(pixels.values, "HU", "hu-window", SIDE)
    with tempfile.TemporaryDirectory() as folder:
        reducers = {name: _reducer(name, Path(folder)) for name in DRAWN}
        for name, reducer in reducers.items():
            yield f"{name}.png", _png(_strip(shown, _kept(reducer, slices)))
        yield "distances.svg", _distances(shown, slices, [reducers[name] for name in MEASURED])
        yield "curve.svg", _curve(reducers["hash"], slices)


def _reducer(name: str, folder: Path) -> Reducer[Any]:
    plugin = load().find("reducer", name).load()
    if name not in NETWORKED:
        return plugin()
    given = {"backbone": _backbone(folder / "backbone.safetensors"), "size": 64}
    more = {"clusters": 4} if name == "semdedup" else {}
    return plugin(plugin.params_type.model_validate(given | more))


def _backbone(path: Path) -> Path:
    """Write a small network with random weights, for want of trained ones."""
    import torch

    from ctkit_torch.backbones import save_backbone
    from ctkit_torch.trunks import build_trunk

    if not path.exists():
        torch.manual_seed(0)
        save_backbone(path, build_trunk("resnet18", 1), mean=0.3, std=0.3, metadata={})
    return path


def _choice(reducer: Reducer[Any], slices: Slices) -> tuple[Table, Choice]:
    n = len(slices.index)
    evidence = None if reducer.evidence == "none" else reducer.describe(slices)
    whole = {"none": lambda _: None, "slice": lambda some: evidence[some], "pair": lambda _: evidence}
    nothing = np.zeros(n, np.int64)
    scope = "volume" if "volume" in reducer.scopes else "dataset"
    choice = Choice(reducer, scope, np.nan, whole[reducer.evidence], f"reducer {type(reducer).__name__}")
    return Table(nothing, slices.index, nothing), choice


def _kept(reducer: Reducer[Any], slices: Slices) -> NDArray[np.bool_]:
    table, choice = _choice(reducer, slices)
    return selection.select(table, [choice], seed=0, target=KEEP).kept


def _strip(shown: NDArray[np.uint8], kept: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """All slices from the lowest to the highest, in rows, at full contrast: kept ones framed."""
    cell = SIDE + 2 * FRAME
    rows = -(-len(shown) // COLUMNS)
    canvas = np.full((rows * cell, COLUMNS * cell, 3), 255, np.uint8)
    for number, (image, stays) in enumerate(zip(shown, kept, strict=True)):
        top, left = number // COLUMNS * cell, number % COLUMNS * cell
        canvas[top : top + cell, left : left + cell] = BLUE if stays else 255
        canvas[top + FRAME : top + FRAME + SIDE, left + FRAME : left + FRAME + SIDE] = image[..., None]
    return canvas


def _png(image: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).quantize(64).save(data, "PNG", optimize=True)
    return data.getvalue()


def _distances(shown: NDArray[np.uint8], slices: Slices, reducers: list[Any]) -> bytes:
    """A slice, and others ever farther up, with their distances in the unit of each reducer."""
    from matplotlib.figure import Figure

    first = len(slices.index) // 3
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, apart in zip(figure.subplots(1, len(APART)), APART, strict=True):
        axes.imshow(shown[first + apart], cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(f"{apart} higher" if apart else "this slice", fontsize=9)
        pair = Slices(slices.grey[[first, first + apart]], None, np.arange(2))
        lines = [f"{reducer.knob.unit} {_distance(reducer, pair):.3g}" for reducer in reducers] if apart else []
        axes.text(0.5, -0.06, "\n".join(lines), transform=axes.transAxes, ha="center", va="top", fontsize=8)
    return _svg(figure)


def _distance(reducer: Any, pair: Slices) -> float:
    evidence = reducer.describe(pair)
    return float(evidence[0] if reducer.evidence == "pair" else reducer.distances(evidence[:1], evidence[1:])[0, 0])


def _curve(reducer: Reducer[Any], slices: Slices) -> bytes:
    """How many slices each threshold keeps."""
    from matplotlib.figure import Figure

    table, choice = _choice(reducer, slices)
    found = selection.curve(table, [choice], seed=0)
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.step(list(found), list(found.values()), where="mid", color=[part / 255 for part in BLUE])
    axes.set(xlabel="threshold of hash, bits", ylabel="slices kept", xlim=(0, 40), ylim=(0, len(slices.index) + 1))
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _svg(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="svg", metadata={"Date": None})
    return data.getvalue()
