"""What files of weights say of themselves, read without torch and without the values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from ctkit.errors import DataError
from ctkit_torch.architectures import check_architecture

#: Blocks per stage of the plain ResNets; those of three convolutions a block are the deeper ones.
RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}


class Header(NamedTuple):
    """What a backbone of ctkit says of itself."""

    architecture: str
    mean: float
    std: float
    metadata: Mapping[str, str]


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def is_ours(path: Path) -> bool:
    """Whether a safetensors file says that it is a backbone of ctkit.

    Raises ``DataError`` where the file is not whole.
    """
    return {"architecture", "mean", "std"} & _names_and_metadata(path)[1].keys() != set()


def _names_and_metadata(path: Path) -> tuple[list[str], Mapping[str, str]]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys()), file.metadata() or {}
    except OSError:
        raise
    except Exception as error:  # SafetensorError, and what its parser raises
        raise DataError(f"{path} is not a complete safetensors file: {error}") from error


def read_header(path: Path) -> Header:
    """Read the header of a backbone of ctkit. Imports no torch.

    Raises ``DataError`` where the file is not whole, is no backbone, or names another ResNet than its weights make.
    """
    names, metadata = _names_and_metadata(path)
    try:
        architecture = check_architecture(metadata["architecture"])
        mean, std = float(metadata["mean"]), float(metadata["std"])
    except KeyError as error:
        raise DataError(f"{path} is not a backbone of ctkit: its metadata lacks {error}") from error
    except ValueError as error:
        raise DataError(f"{path} is not a backbone of ctkit: of its metadata, {error}") from error
    if not (isfinite(mean) and isfinite(std) and std > 0):
        raise DataError(f"{path} says that its images have mean {mean:g} and std {std:g}: it cannot be used")
    if architecture in RESNETS.values() and (held := resnet_of(path, names)) != architecture:
        raise DataError(f"{path} says that it is a {architecture} but holds a {held}")
    return Header(architecture, mean, std, metadata)


def resnet_of(path: Path, names: Collection[str]) -> str:
    """Name of the plain ResNet that has as many blocks as the ``names`` of its weights show.

    Raises ``DataError`` where there is none such.
    """
    blocks = tuple(
        len({name.split(".")[1] for name in names if name.startswith(f"layer{stage}.")}) for stage in range(1, 5)
    )
    deep = any(name.endswith(".conv3.weight") for name in names)
    architecture = RESNETS.get((blocks, deep))
    if architecture is None:
        raise DataError(
            f"{path} holds no whole ResNet: {len(names)} weights of a trunk were found, with "
            f"{'/'.join(map(str, blocks))} blocks in its four stages"
        )
    return architecture
