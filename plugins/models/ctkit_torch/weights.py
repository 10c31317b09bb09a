"""What keeps weights from being used, in files or where libraries keep or fetch theirs; found before a run starts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ctkit.errors import DataError
from ctkit_torch.architectures import TORCHVISION
from ctkit_torch.headers import is_ours, is_safetensors, read_header

PATIENCE = 5.0  #: seconds that a server has to answer


def faults_of_file(path: Path, architecture: str | None = None) -> Iterator[str]:
    """Say why ``load_backbone`` would refuse a file, or that it holds another network than ``architecture``.

    Of a backbone of ctkit the header is read, without torch; other files are loaded.
    """
    try:
        if is_safetensors(path) and is_ours(path):
            held = read_header(path).architecture
        else:
            from ctkit_torch.backbones import load_backbone

            held = load_backbone(path, architecture).architecture
    except (DataError, OSError) as error:
        yield f"{error}; give another file"
        return
    if architecture is not None and held != architecture:
        yield f"{path} holds a {held} but backbone is {architecture}; make them equal"


def faults_of_library(network: str) -> Iterator[str]:
    """Say why the weights that torchvision or timm has for a network cannot be had; they are not fetched."""
    return _of_torch_hub(network, *torchvision_weights(network)) if network in TORCHVISION else _of_timm(network)


def torchvision_weights(network: str) -> tuple[str, Path]:
    """Address of torchvision's first ImageNet weights, and where torch keeps them once they are fetched."""
    import torch
    import torchvision

    url: str = torchvision.models.get_model_weights(network)["IMAGENET1K_V1"].url
    return url, _kept(url, torch.hub.get_dir())


def _kept(url: str, folder: str) -> Path:
    return Path(folder) / "checkpoints" / posixpath.basename(urlsplit(url).path)


def _of_torch_hub(network: str, url: str, path: Path) -> Iterator[str]:
    if not path.exists():
        yield from faults_of_fetching(f"the weights of {network}", url, path.parent)
        return
    import torch

    try:
        torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # torch raises many kinds on damaged files
        yield f"{path} is damaged ({type(error).__name__}); remove it, so that it is downloaded again"


def _of_timm(network: str) -> Iterator[str]:
    import timm
    import torch

    known = timm.get_pretrained_cfg(network)
    if known is not None and known.hf_hub_id:
        yield from _of_hugging_face(network, known.hf_hub_id)
    elif known is not None and isinstance(known.url, str) and known.url:
        yield from _of_torch_hub(network, known.url, _kept(known.url, torch.hub.get_dir()))
    else:
        yield f"timm has no weights for {network}; give the path of a checkpoint as `backbone`, or another network"


def _of_hugging_face(network: str, name: str) -> Iterator[str]:
    from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache

    repository, _, revision = name.partition("@")
    files = ("model.safetensors", "pytorch_model.bin")
    there = (try_to_load_from_cache(repository, file, revision=revision or None) for file in files)
    if any(isinstance(path, str) for path in there):
        return
    what, url = f"the weights of {network}", hf_hub_url(repository, files[0], revision=revision or None)
    if constants.HF_HUB_OFFLINE:
        yield f"{what} are not in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids {url}; copy them there"
    else:
        yield from faults_of_fetching(what, url, Path(constants.HF_HUB_CACHE))


def faults_of_fetching(what: str, url: str, folder: Path) -> Iterator[str]:
    """Say why a file that is not in a folder cannot be fetched there."""
    reasons = [f"no answer within {PATIENCE:g} s"]

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=PATIENCE):  # noqa: S310  # the library's own address
                reasons.clear()
        except (OSError, ValueError) as error:
            reasons[:] = [str(error)]

    asking = Thread(target=ask, daemon=True)  # looking up a name may take longer than any time-out
    asking.start()
    asking.join(PATIENCE)
    if reasons:
        yield (
            f"cannot download {what} from {url} ({reasons[0]}), and they are not in {folder}; download them there"
            " once, or give your own file"
        )
