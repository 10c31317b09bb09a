"""Weights are found missing, damaged or of another network before a run starts, and without a network."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import timm
import torch
from safetensors.torch import save_file

from ctkit_models.simclr import SimCLR, SimCLRParams
from ctkit_models.untrained import Untrained, UntrainedParams
from ctkit_reducers.embedding import Embedding, EmbeddingParams
from ctkit_torch import weights
from ctkit_torch.backbones import random_backbone, save_backbone
from ctkit_torch.weights import faults_of_file, faults_of_library

NETWORK = "resnet18"
FILE = "resnet18-f37072fd.pth"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_backbone(path, random_backbone(NETWORK, 0).trunk, mean=0.2, std=0.2, metadata={})
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "checkpoint.pt"
    torch.save(random_backbone(NETWORK, 0).trunk.weights(), path)
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def refuse(request: SimpleNamespace, timeout: float) -> None:
        asked.append(request.full_url)
        raise URLError("no way there")

    monkeypatch.setattr(weights, "urlopen", refuse)
    return asked


def cut(path: Path, out: Path, share: float) -> Path:
    data = path.read_bytes()
    out.write_bytes(data[: int(share * len(data))])
    return out


def test_whole_files_of_the_network_have_no_fault(whole: Path, checkpoint: Path) -> None:
    for path in (whole, checkpoint):
        assert list(faults_of_file(path, NETWORK)) == []
        assert list(SimCLR(SimCLRParams(backbone=NETWORK, init=path)).check("cpu")) == []
        assert list(Untrained(UntrainedParams(backbone=NETWORK, init=path)).check("cpu")) == []
        assert list(Embedding(EmbeddingParams(backbone=path)).check("cpu")) == []


@pytest.mark.parametrize("share", [0, 1e-6, 0.0001, 0.5, 0.9999])
def test_a_file_that_was_cut_short_is_found(whole: Path, checkpoint: Path, tmp_path: Path, share: float) -> None:
    for path in (whole, checkpoint):
        (fault,) = faults_of_file(cut(path, tmp_path / path.name, share), NETWORK)
        assert str(tmp_path / path.name) in fault
        assert fault.endswith("; give another file")


def test_another_network_is_found(whole: Path, checkpoint: Path, tmp_path: Path) -> None:
    for path in (whole, checkpoint):
        assert list(SimCLR(SimCLRParams(backbone="resnet34", init=path)).check(None)) == [
            f"{path} holds a resnet18 but backbone is resnet34; make them equal"
        ]
    renamed = tmp_path / "renamed.safetensors"
    metadata = {"architecture": "resnet34", "mean": "0", "std": "1"}
    save_file({name: value.contiguous() for name, value in torch.load(checkpoint).items()}, renamed, metadata)
    (fault,) = faults_of_file(renamed, "resnet34")
    assert fault.startswith(f"{renamed} says that it is a resnet34 but holds a resnet18")


def test_what_is_no_file_of_weights_is_found(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("not a network")
    plain = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(2)}, plain)
    for path, said in ((notes, "is refused"), (plain, "holds no ResNet trunk"), (tmp_path, "directory")):
        (fault,) = faults_of_file(path, NETWORK)
        assert said in fault
        assert str(path) in fault


def test_a_backbone_of_ctkit_is_looked_at_without_torch(whole: Path) -> None:
    code = (
        "import sys, pathlib; from ctkit_torch.weights import faults_of_file; "
        f"print(list(faults_of_file(pathlib.Path({str(whole)!r}), 'resnet50')), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "holds a resnet18 but backbone is resnet50" in done.stdout
    assert done.stdout.endswith("False\n")


def test_weights_that_cannot_be_fetched_are_said_with_address_and_folder(hub: Path, no_network: list[str]) -> None:
    (fault,) = Embedding(EmbeddingParams(network=NETWORK)).check("cpu")
    assert fault == (
        f"cannot download the weights of resnet18 from https://download.pytorch.org/models/{FILE} (<urlopen error no"
        f" way there>), and they are not in {hub}; download them there once, or give your own file"
    )
    (fault,) = Embedding(EmbeddingParams(network="efficientnet_b0")).check("cpu")
    assert "https://huggingface.co/timm/efficientnet_b0.ra_in1k/resolve/main/model.safetensors" in fault
    assert str(hub.parent) in fault
    assert len(no_network) == 2
    assert not hub.exists()


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_the_patience(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Event()

    def say_nothing(request: SimpleNamespace, timeout: float) -> None:
        ended.wait()
        raise TimeoutError

    monkeypatch.setattr(weights, "PATIENCE", 0.01)
    monkeypatch.setattr(weights, "urlopen", say_nothing)
    (fault,) = faults_of_library(NETWORK)
    ended.set()
    assert "(no answer within 0.01 s)" in fault


def test_weights_that_are_reachable_are_not_fetched(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "urlopen", lambda request, timeout: nullcontext())
    assert list(faults_of_library(NETWORK)) == []
    assert not hub.exists()


def test_weights_that_are_at_hand_need_no_network(
    hub: Path, checkpoint: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.mkdir(parents=True)
    (hub / FILE).write_bytes(checkpoint.read_bytes())
    assert list(faults_of_library(NETWORK)) == []
    cut(checkpoint, hub / FILE, 0.5)
    (fault,) = faults_of_library(NETWORK)
    assert fault.startswith(f"{hub / FILE} is damaged")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(checkpoint))
    assert list(faults_of_library("efficientnet_b0")) == []
    assert no_network == []


def test_hugging_face_is_not_asked_where_it_must_not_be(
    hub: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (fault,) = faults_of_library("efficientnet_b0")
    assert "HF_HUB_OFFLINE forbids https://huggingface.co/timm/" in fault
    assert no_network == []


def test_a_network_without_weights_is_found(no_network: list[str]) -> None:
    bare = next(name for name in timm.list_models() if not timm.get_pretrained_cfg(name).has_weights)
    (fault,) = faults_of_library(bare)
    assert fault.startswith(f"timm has no weights for {bare}")
    assert no_network == []


@pytest.mark.parametrize(
    ("device", "said"),
    [("cpu", ["precision fp16 needs a GPU", 'batch "auto" finds the largest']), ("cuda", []), (None, [])],
)
def test_what_needs_a_gpu_is_found_where_there_is_none(device: str | None, said: list[str]) -> None:
    found = list(SimCLR(SimCLRParams(batch="auto", precision="fp16")).check(device))
    assert [fault[: len(start)] for fault, start in zip(found, said, strict=True)] == said
