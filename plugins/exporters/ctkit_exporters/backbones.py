"""Export: a run's backbones for other people's code, each checked against the original by the method that made it.

===============  ===================================================================================================
format           leaves in the folder
===============  ===================================================================================================
``torchvision``  ``NAME.safetensors``: weights under torchvision's names, normalisation in the metadata
``timm``         ``NAME/``: ``model.safetensors`` and ``config.json``, which timm loads by ``local-dir:NAME``
``onnx``         ``NAME.onnx``: network and weights, normalisation in the metadata
``torchscript``  ``NAME.pt``: network and weights, normalisation as its attributes ``mean`` and ``std``
===============  ===================================================================================================

NAME is ``ARM-PRETRAIN-seed-SEED``. Neither the data nor the cache of the run are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ctkit.console import Console
from ctkit.contracts import Exported, ExportFormat, Method, Params
from ctkit.errors import RequestError, nearest
from ctkit.plugins import Registry
from ctkit.stages.pretrain import BACKBONE
from ctkit.storage import RunFolder, read_provenance

SUFFIXES: Mapping[ExportFormat, str] = {
    "torchvision": ".safetensors",
    "timm": "",
    "onnx": ".onnx",
    "torchscript": ".pt",
}


@dataclass(frozen=True)
class Trained:
    """A backbone in a run folder."""

    arm: str
    pretrain: str
    seed: int
    path: Path
    method: str  #: as a pipeline file names it

    @property
    def name(self) -> str:
        """What its export is called."""
        return f"{self.arm}-{self.pretrain}-seed-{self.seed}"


def choose_backbones(
    run: Path, arm: str | None = None, pretrain: str | None = None, seed: int | None = None
) -> list[Trained]:
    """Return the backbones of the folder ``run``, or those of one arm, pre-training and seed.

    Raises ``RequestError`` where there is no run, no backbone, or none of that name.
    """
    chosen = list(_backbones(run))
    if not chosen:
        raise RequestError(f"{run} holds no backbone: it has no [[pretrain]], or did not come so far")
    for key, name in (("arm", arm), ("pretrain", pretrain), ("seed", seed)):
        there = {str(getattr(one, key)) for one in chosen}
        chosen = [one for one in chosen if name is None or getattr(one, key) == name]
        if not chosen:
            raise RequestError(f"{run} has no backbone of {key} {name!r}; {nearest(str(name), there)}")
    return chosen


def export_backbones(chosen: list[Trained], form: ExportFormat, out: Path, registry: Registry) -> Iterator[Exported]:
    """Write each backbone into the folder ``out``; or the only one to ``out`` where that is named as a file.

    Raises ``RequestError`` where several are to be written but ``out`` is named as a file, or two have one name.
    """
    suffix = SUFFIXES[form]
    one_file = bool(suffix) and out.suffix == suffix
    if one_file and len(chosen) > 1:
        names = ", ".join(one.name for one in chosen)
        raise RequestError(
            f"{out} takes one backbone but there are {len(chosen)}: {names}; choose by --arm, --pretrain and --seed, "
            "or give --out a folder"
        )
    _check_names(chosen)
    for one in chosen:
        method = cast(type[Method[Params]], registry.find("method", one.method).load())
        yield method.export(one.path, form, out if one_file else out / f"{one.name}{suffix}")


def tell(written: Iterable[Exported], console: Console) -> None:
    """Say of each backbone what was compared, and how to load the last of them."""
    loading: tuple[str, ...] = ()
    for one in written:
        console.say(
            f"{one.path}: mean {one.mean:.6g}, std {one.std:.6g}; {one.compared} differ from the original's by at most "
            f"{one.difference:.1g}, where they reach {one.greatest:.1f}"
        )
        loading = one.loading
    console.say("to load it, for images (n, 3, height, width) on the scale 0..1, grey repeated 3 times:")
    for line in loading:
        console.say(f"    {line}")


def _check_names(chosen: list[Trained]) -> None:
    """Refuse what would overwrite itself: arm ``a-b`` with pre-training ``c`` is named as ``a`` with ``b-c``."""
    named: dict[str, Trained] = {}
    for one in chosen:
        other = named.setdefault(one.name, one)
        if other is not one:
            raise RequestError(
                f"two backbones are named {one.name}: arm {other.arm!r} with pre-training {other.pretrain!r}, and arm "
                f"{one.arm!r} with {one.pretrain!r}; choose one by --arm and --pretrain"
            )


def _backbones(run: Path) -> Iterator[Trained]:
    facts = read_provenance(run)
    if "pipeline" not in facts:
        raise RequestError(f"{run} is no run folder: it has no run.json")
    folder = RunFolder(run)
    for arm in facts["pipeline"]["reduce"]:
        for plan in facts["pipeline"]["pretrain"]:
            for seed in facts["seeds"]:
                path = folder.pretrain(arm["id"], plan["id"], seed) / BACKBONE
                if path.exists():
                    yield Trained(arm["id"], plan["id"], seed, path, plan["use"])
