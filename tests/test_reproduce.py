"""The paper's study: its files are valid once the data is there, and its miniature runs from scans to report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from ctkit import plugins
from ctkit.cli import main
from ctkit.files import read_csv
from ctkit.pipeline_file.pipeline import Pipeline
from ctkit.runner import pipeline_text
from ctkit.testing import samples

PAPER = Path(__file__).resolve().parent.parent / "examples" / "paper"
DATA = ("LIDC-IDRI", "FDG-PET-CT-Lesions", "COVID-CT", "MedMNIST", "head-ct")
STRATEGIES = ["all", "hash", "every-n", "ssim", "mutual-information", "embedding"]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The folder of pipeline files, with empty folders where the data would be."""
    for path in PAPER.glob("*.toml"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    for name in DATA:
        (tmp_path / "data" / name).mkdir(parents=True)
    return tmp_path


def resolved(path: Path) -> Pipeline:
    return pipeline_text.load(path, plugins.load())


@pytest.mark.parametrize("name", ["lidc-idri", "pet-ct", "miniature"])
def test_a_study_compares_the_six_strategies(study: Path, name: str) -> None:
    pipeline = resolved(study / f"{name}.toml")
    assert [arm.steps[0].reducer.entry.name for arm in pipeline.arms] == STRATEGIES
    assert [arm.keep.like if arm.keep else None for arm in pipeline.arms] == [None, None, *["hash6"] * 4]
    assert [plan.method.entry.name for plan in pipeline.pretrains] == ["swav"]


@pytest.mark.parametrize("name", ["lidc-idri", "pet-ct", "methods"])
def test_a_study_scores_on_the_three_tasks_by_every_protocol(study: Path, name: str) -> None:
    tasks = [(plan.task.entry.name, plan.protocol.entry.name) for plan in resolved(study / f"{name}.toml").tasks]
    assert tasks == [
        (task, protocol)
        for task in ("covid-ct", "organsmnist", "brain-hemorrhage")
        for protocol in ("finetune", "linear", "knn")
    ]


@pytest.mark.parametrize("name", ["lidc-idri", "pet-ct", "methods"])
def test_a_study_says_what_pre_training_bought_over_random_weights_and_imagenets(study: Path, name: str) -> None:
    path = study / f"{name}.toml"
    assert [baseline.id for baseline in resolved(path).baselines] == ["untrained"]
    text = path.read_text(encoding="utf-8")
    commented = text[text.index("# [[baseline]]") : text.index("\n\n# `finetune`")]
    path.write_text(text.replace(commented, commented.replace("# ", "", 1).replace("\n# ", "\n")), encoding="utf-8")
    (study / "data" / "resnet50-0676ba61.pth").touch()
    random, imagenet = (baseline.method.params.model_dump() for baseline in resolved(path).baselines)
    assert (random["backbone"], random["init"]) == (imagenet["backbone"], None)
    assert imagenet["init"] is not None


def test_what_the_files_state_is_what_methods_do_by_default_but_for_head_and_decay(study: Path) -> None:
    """The defaults are the paper's settings, stated again for readers.

    Its MoCo had no hidden layer, and all weights of SwAV and BYOL decayed. Warm-up, local size and freeze, left out,
    come to the same in so long a run.
    """
    differing = {}
    for plan in resolved(study / "methods.toml").pretrains:
        defaults = type(plan.method.params)().model_dump()
        stated = plan.method.params.model_dump()
        differing[plan.id] = {name: value for name, value in stated.items() if value != defaults[name]}
    assert differing == {
        "swav": {
            "decay": "all",
            "warmup": 10,
            "local_size": 96,
            "frozen": 1,
        },  # left out, they come to the same in so long a run
        "moco": {"head": "linear"},
        "simclr": {"warmup": 10},
        "byol": {"decay": "all", "warmup": 10},
    }


@pytest.mark.parametrize("method", ["swav", "moco", "simclr", "byol"])
def test_what_decays_is_what_decayed_in_the_scripts(study: Path, method: str) -> None:
    """Of SimCLR, which the scripts do not have, biases and normalisation are spared, as in its paper."""
    from ctkit_models.optimisers import build_optimiser

    (params,) = (plan.method.params for plan in resolved(study / "methods.toml").pretrains if plan.id == method)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    weights, others = build_optimiser(network, params).param_groups
    published = {"swav": 1e-6, "moco": 1e-4, "byol": 1.5e-6, "simclr": 1e-6}[method]
    assert (len(weights["params"]), len(others["params"])) == (2, 4)
    assert weights["weight_decay"] == published
    assert others["weight_decay"] == (0 if method == "simclr" else published)


def test_the_first_step_of_swavs_batch_norm_is_the_published_one(study: Path) -> None:
    """LARS of pl_bolts, which the scripts call with its defaults: the trust ratio is of all weights, 1-d ones too."""
    from ctkit_models.optimisers import build_optimiser

    (params,) = (plan.method.params for plan in resolved(study / "methods.toml").pretrains if plan.id == "swav")
    layer = nn.BatchNorm2d(64)
    gradient = torch.linspace(-1.0, 2.0, 64)
    layer.weight.grad, layer.bias.grad = gradient.clone(), torch.zeros(64)
    build_optimiser(layer, params).step()
    scale, decay = torch.ones(64, dtype=torch.float64), 1e-6
    ratio = 0.001 * scale.norm() / (gradient.double().norm() + decay * scale.norm() + 1e-8)
    expected = scale - 0.15 * ratio * (gradient.double() + decay * scale)
    assert torch.allclose(layer.weight.double(), expected, rtol=0, atol=1e-7)
    relative = (layer.weight.detach() - 1).norm() / scale.norm()
    assert relative == pytest.approx(0.15 * 0.001, rel=1e-3)


def test_the_miniature_runs_from_scans_to_report(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)
    weights = samples.backbone(study / "weights.safetensors")  # for those that torchvision would download
    with pytest.raises(SystemExit) as left:
        main(["run", "miniature.toml", "--quiet", "--set", f"reduce.embedding.backbone={weights}"])
    assert left.value.code == 0, capsys.readouterr().err
    run = study / "runs" / "paper-miniature"
    assert json.loads((run / "run.json").read_text())["state"] == "done"
    scored = {(row["arm"], row["protocol"]) for row in read_csv(run / "results.csv")}
    assert len(scored) == (len(STRATEGIES) + 1) * 3
    pairs = {(row["arm"], row["reference"]) for row in read_csv(run / "comparisons.csv")}
    arms = {arm for arm, _ in scored} - {"untrained"}
    same_size = {("hash6", arm) for arm in arms - {"all", "hash6"}} | {
        (arm, "every-n") for arm in arms - {"all", "every-n"}
    }
    assert pairs == {(arm, "all") for arm in arms - {"all"}} | same_size | {(arm, "untrained") for arm in arms}
    assert (run / "report.html").stat().st_size > 0
