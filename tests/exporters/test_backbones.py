"""Exports of backbones: which ones, under which names, and what is said. How they are written is the method's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ctkit
from ctkit import RunBackbone
from ctkit.cli import main
from ctkit.errors import RequestError
from ctkit_exporters.backbones import export_backbones, name_of
from ctkit_torch.backbones import save_backbone
from ctkit_torch.trunks import build_trunk

FACTS = {
    "pipeline": {
        "reduce": [{"id": "all"}, {"id": "hash6"}],
        "pretrain": [{"id": "swav", "use": "ctkit-ssl:swav"}, {"id": "moco", "use": "ctkit-ssl:moco"}],
    },
    "seeds": [42, 43],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What is left of a run, copied from another machine: of ``moco`` the first seed alone is done."""
    folder = tmp_path / "run"
    for arm in ("all", "hash6"):
        for name in ("swav/seed-42", "swav/seed-43", "moco/seed-42"):
            path = folder / "arms" / arm / name / "backbone.safetensors"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"")
    (folder / "run.json").write_text(json.dumps(FACTS))
    return folder


def names(run: Path, **wanted: object) -> list[str]:
    return [name_of(one) for one in ctkit.open_run(run).find_backbones(**wanted)]  # type: ignore[arg-type]  # by name


def test_without_a_name_all_backbones_are_chosen(run: Path) -> None:
    assert names(run) == [
        *("all-swav-seed-42", "all-swav-seed-43", "all-moco-seed-42"),
        *("hash6-swav-seed-42", "hash6-swav-seed-43", "hash6-moco-seed-42"),
    ]


def test_arm_pretraining_and_seed_narrow_the_choice(run: Path) -> None:
    assert names(run, arm="hash6", seed=42) == ["hash6-swav-seed-42", "hash6-moco-seed-42"]
    (one,) = ctkit.open_run(run).find_backbones(arm="all", pretrain="moco")
    assert (one.method, one.path.parent) == ("ctkit-ssl:moco", run / "arms" / "all" / "moco" / "seed-42")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"arm": "hahs6"}, "has no backbone of arm 'hahs6'; did you mean 'hash6'"),
        ({"pretrain": "byol"}, "has no backbone of pretrain 'byol'; valid: moco, swav"),
        ({"pretrain": "moco", "seed": 43}, "has no backbone of seed 43; valid: 42"),
    ],
    ids=str,
)
def test_a_name_that_is_not_there_is_met_by_those_that_are(run: Path, wanted: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        names(run, **wanted)


def test_a_run_without_backbones_says_so(run: Path) -> None:
    for path in run.rglob("backbone.safetensors"):
        path.unlink()
    with pytest.raises(RequestError, match=r"has no backbone: it has no \[\[pretrain\]\], or did not reach this stage"):
        ctkit.open_run(run).find_backbones()


def test_one_file_takes_one_backbone(run: Path) -> None:
    chosen = ctkit.open_run(run).find_backbones(arm="all", pretrain="swav")
    with pytest.raises(RequestError, match="there are 2: all-swav-seed-42, all-swav-seed-43; choose by --arm"):
        list(export_backbones(chosen, "onnx", run / "x.onnx"))


def test_two_backbones_of_one_name_are_refused_before_one_overwrites_the_other(tmp_path: Path) -> None:
    chosen = [
        RunBackbone(arm, plan, 42, tmp_path / "backbone.safetensors", "ctkit-ssl:moco")
        for arm, plan in (("hash-6", "moco"), ("hash", "moco"), ("hash", "6-moco"))
    ]
    with pytest.raises(RequestError, match="two backbones are named hash-6-moco-seed-42: arm 'hash-6' with pre-train"):
        list(export_backbones(chosen, "onnx", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("out", "path"), [("swav.safetensors", "swav.safetensors"), ("out", "out/all-swav-seed-42.safetensors")]
)
def test_the_command_says_what_it_compared_and_how_to_load_it(
    run: Path, out: str, path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    source = run / "arms" / "all" / "swav" / "seed-42" / "backbone.safetensors"
    save_backbone(source, build_trunk("resnet18"), mean=0.5, std=0.25, metadata={"size": "32"})
    chosen = ("--arm", "all", "--pretrain", "swav", "--seed", "42")
    with pytest.raises(SystemExit) as left:
        main(["export", ".", "--format", "torchvision", *chosen, "--out", out])
    assert left.value.code == 0
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{path}: mean 0.5, std 0.25; 512 features of 3 images of 32 pixels differ from")
    assert (run / path).is_file()
    assert lines[-1] == "    features = network((images - 0.5) / 0.25)"


def test_spatial_dims_are_those_of_the_bundle_and_of_no_other_format(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    source = run / "arms" / "all" / "swav" / "seed-42" / "backbone.safetensors"
    save_backbone(source, build_trunk("resnet18"), mean=0.5, std=0.25, metadata={"size": "32"})
    chosen = ("--arm", "all", "--pretrain", "swav", "--seed", "42", "--spatial-dims", "3", "--out", "out")
    codes = []
    for form in ("timm", "monai"):
        with pytest.raises(SystemExit) as left:
            main(["export", ".", "--format", form, *chosen])
        codes.append(left.value.code)
    assert codes == [2, 0]
    told = capsys.readouterr()
    assert "--spatial-dims 3 needs --format monai" in told.err
    assert "features = network(images[..., None])" in told.out
    definition = json.loads((run / "out" / "all-swav-seed-42" / "configs" / "inference.json").read_text())
    assert definition["network_def"]["spatial_dims"] == 3
