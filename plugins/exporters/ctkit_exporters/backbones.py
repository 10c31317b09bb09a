"""Export: a run's backbones for other people's code, each checked against the original by the method that made it.

Neither the data nor the cache of the run are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ctkit import Console, RunBackbone
from ctkit.contracts import Exported, ExportFormat
from ctkit.errors import RequestError

SUFFIXES: Mapping[ExportFormat, str] = {
    "torchvision": ".safetensors",
    "timm": "",
    "onnx": ".onnx",
    "torchscript": ".pt",
    "monai": "",
    "monai-3d": "",
}


def name_of(backbone: RunBackbone) -> str:
    """What the export of a backbone is called."""
    return f"{backbone.arm}-{backbone.pretrain}-seed-{backbone.seed}"


def export_backbones(chosen: list[RunBackbone], form: ExportFormat, out: Path) -> Iterator[Exported]:
    """Write each backbone into the folder ``out``; or the only one to ``out`` where that is named as a file.

    Raises ``RequestError`` where several are to be written but ``out`` is named as a file, or two have one name.
    """
    suffix = SUFFIXES[form]
    one_file = bool(suffix) and out.suffix == suffix
    if one_file and len(chosen) > 1:
        names = ", ".join(map(name_of, chosen))
        raise RequestError(
            f"{out} is for one backbone but there are {len(chosen)}: {names}; choose by --arm, --pretrain and --seed, "
            "or give --out a folder"
        )
    _check_names(chosen)
    for one in chosen:
        yield one.export(form, out if one_file else out / f"{name_of(one)}{suffix}")


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


def _check_names(chosen: list[RunBackbone]) -> None:
    """Refuse what would overwrite itself: arm ``a-b`` with pre-training ``c`` is named as ``a`` with ``b-c``."""
    named: dict[str, RunBackbone] = {}
    for one in chosen:
        other = named.setdefault(name_of(one), one)
        if other is not one:
            raise RequestError(
                f"two backbones are named {name_of(one)}: arm {other.arm!r} with pre-training {other.pretrain!r}, "
                f"and arm {one.arm!r} with {one.pretrain!r}; choose one by --arm and --pretrain"
            )
