"""Finds a trunk in checkpoints of other projects: released ones, other toolkits', files of torchvision and timm."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctkit.errors import DataError
from ctkit_torch.headers import RESNETS, resnet_of
from ctkit_torch.trunks import Trunk, build_trunk

#: Parts of a prefix by which a network's slowly moving copy, or DINO's student, is known: the other one is meant.
_COPY = re.compile("momentum|encoder_k|target|student")
_BLOCK = re.compile(r"(^|\.)(layer)?\d\.\d+\.$")  # of a ResNet, with a first convolution of its own
#: What a ResNet's parts are called where it was wrapped in ``nn.Sequential``, as lightly's examples do.
_IN_SEQUENCE = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a torch file, of nested dictionaries too, under names with dots. Never runs code.

    Raises ``DataError`` where the file holds more than weights, or is damaged.
    """
    try:
        with warnings.catch_warnings():  # of what is refused below
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} is refused: it contains more than weights, and loading it could run code; save its state_dict"
            " alone and use that file"
        ) from error
    except Exception as error:  # torch raises many kinds on damaged files
        raise DataError(f"{path} is neither a safetensors file nor a torch checkpoint: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__} instead of named weights")
    return dict(_tensors(content, ""))


def _tensors(content: Mapping[Any, Any], above: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield f"{above}{name}", value
        elif isinstance(value, dict):
            yield from _tensors(value, f"{above}{name}.")


def find_trunk(path: Path, found: Mapping[str, Tensor], architecture: str | None) -> Trunk:
    """Return the one whole trunk that a checkpoint holds under any prefix.

    A plain ResNet is known by its weights, any other network by ``architecture``. Raises ``DataError`` where there is
    no whole trunk, or more than one.
    """
    plain = architecture is None or architecture in RESNETS.values()
    wanted = "conv1.weight" if plain else next(iter(build_trunk(str(architecture)).weights()))
    candidates = dict(_under_prefixes(found, wanted))
    if plain:
        candidates |= _in_sequences(found)
    if not candidates:
        heads = sorted({name.split(".")[0] for name in found})
        raise DataError(
            f"{path} holds no {'ResNet' if plain else architecture} trunk: none of its {len(found)} weights is called "
            f"{wanted}, with or without a prefix; it has {', '.join(heads[:8]) or 'no weights'}"
        )
    whole, errors = {}, []
    for prefix, weights in candidates.items():
        try:
            whole[prefix] = filled(path, resnet_of(path, weights) if plain else str(architecture), weights)
        except DataError as error:
            errors.append(error)
    meant = [prefix for prefix in whole if not _COPY.search(prefix)] or list(whole)
    if not meant:
        raise errors[0]
    if len(meant) > 1:
        raise DataError(
            f"{path} holds {len(meant)} complete backbones, under {' and '.join(map(repr, sorted(meant)))}; save one"
            " of them to a separate file"
        )
    return whole[meant[0]]


def _under_prefixes(found: Mapping[str, Tensor], wanted: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each prefix under which ``wanted`` is there, with the weights under it."""
    for name in found:
        prefix = name.removesuffix(wanted)
        if name.endswith(wanted) and (not prefix or prefix.endswith(".")) and not _BLOCK.search(prefix):
            yield prefix, {key.removeprefix(prefix): found[key] for key in found if key.startswith(prefix)}


def _in_sequences(found: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return ResNets that were wrapped in ``nn.Sequential``, by their prefixes, under torchvision's names."""
    named: dict[str, dict[str, Tensor]] = {}
    for prefix in (name.removesuffix("4.0.conv1.weight") for name in found if name.endswith("4.0.conv1.weight")):
        under = ((key.removeprefix(prefix).partition("."), found[key]) for key in found if key.startswith(prefix))
        named[prefix] = {f"{_IN_SEQUENCE[i]}.{rest}": value for (i, _, rest), value in under if i in _IN_SEQUENCE}
    return named


def filled(path: Path, architecture: str, weights: Mapping[str, Tensor]) -> Trunk:
    """Return the trunk with these weights, in evaluation mode; every one of them must be there and fit.

    A first convolution of one channel is spread over three: it sees the same in a grey image repeated 3 times.
    Raises ``DataError`` where one is missing, of another shape, or holds NaN or infinite values.
    """
    trunk = build_trunk(architecture)
    expected = trunk.weights()
    fitting: dict[str, Tensor] = {}
    for name, own in expected.items():
        value = weights.get(name)
        if value is None:
            continue
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise DataError(f"{path} holds {name} as a sparse, quantised or complex tensor; save it as plain numbers")
        if value.ndim == 4 and value.shape == (own.shape[0], 1, *own.shape[2:]) and own.shape[1] == 3:
            value = (value / 3).repeat(1, 3, 1, 1)
        if value.shape == own.shape:
            fitting[name] = value
    lacking = [name for name in expected if name not in fitting and not name.endswith("num_batches_tracked")]
    if lacking:
        raise DataError(
            f"{path} holds {len(fitting)} of the {len(expected)} weights of {architecture}; "
            f"{lacking[0]} is missing or has another shape"
        )
    bad = next((name for name, value in fitting.items() if not torch.isfinite(value).all()), None)
    if bad:
        raise DataError(f"{path} holds NaN or infinite values in {bad}; the training that wrote it had diverged")
    trunk.load({**expected, **fitting})
    return trunk.eval()
