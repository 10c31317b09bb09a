"""What pretrain makes of jobs: each backbone once, its facts in the run folder, and failures that stop no other."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from ctkit.files import read_csv
from ctkit.stages.materialise import materialise
from ctkit.stages.pretrain import forget_others, found_before, missing, plan_jobs, pretrain

MEAN = {"pretrain": [{"use": "mean"}]}


def trained(session, data):
    data = found_before(session, plan_jobs(session, data))
    data = materialise(session, data, [job.selected.selection for job in missing(session, data)])
    return pretrain(session, data)


def test_every_arm_and_seed_has_a_backbone_of_its_slices(start, chosen) -> None:
    session = start(**MEAN, run={"seeds": 2})
    data = trained(session, chosen(session))
    names = [f"{arm}/mean/seed-{seed}" for arm in ("all", "few") for seed in (42, 43)]
    assert [job.item for job in data.backbones] == names
    folder = session.folder.pretrain("few", "mean", 43)
    weights = load_file(folder.backbone)
    facts = json.loads(folder.facts.read_text())
    assert weights["seed"] == 43
    assert weights["mean"] == pytest.approx(facts["mean"])
    assert facts["slices"] == data.selections["few", None].selection.kept.sum()
    assert [(row["step"], row["name"], row["value"]) for row in read_csv(folder.history)] == [("1", "loss", "0.5")]
    assert session.provenance.trainings["few/mean/seed-43"]["steps"] == 1
    seen = {"item": "few/mean/seed-43", "text": f"{facts['slices']} slices were seen"}
    assert seen in session.provenance.notes


def test_a_backbone_says_where_it_comes_from_and_names_no_patient(start, chosen) -> None:
    session = start(**MEAN)
    data = trained(session, chosen(session))
    with safe_open(session.folder.pretrain("few", "mean", 42).backbone, "numpy") as file:
        metadata = file.metadata()
    assert metadata["arm"] == "few"
    assert metadata["address"] == next(job.address for job in data.jobs if job.arm == "few")
    assert not any(volume.patient in str(metadata) for volume in data.catalogue)


def test_arms_of_the_same_slices_are_trained_once(start, chosen, noted) -> None:
    twins = [{"use": "every-n", "id": "one", "n": 4}, {"use": "every-n", "id": "two", "n": 4}]
    session = start(**MEAN, reduce=twins)
    data = trained(session, chosen(session))
    assert [job.arm for job in data.backbones] == ["one", "two"]
    made = [(item, cached) for stage, item, cached in noted(session) if stage == "pretrain"]
    assert made == [("one/mean/seed-42", False), ("two/mean/seed-42", True)]


def test_a_method_that_fails_for_one_seed_fails_for_it_alone(start, chosen) -> None:
    session = start(pretrain=[{"use": "mean", "unlucky": 43}], run={"seeds": 3})
    data = trained(session, chosen(session))
    assert [job.seed for job in data.backbones] == [42, 44, 42, 44]
    assert [failure["item"] for failure in session.provenance.failures] == ["all/mean/seed-43", "few/mean/seed-43"]
    assert "method 'mean' failed in pretrain: ValueError: no training today" in session.provenance.failures[0]["reason"]
    assert not session.folder.pretrain("all", "mean", 43).path.exists()


def test_a_method_that_gives_no_backbone_is_named(start, chosen) -> None:
    session = start(pretrain=[{"use": "mean", "mood": "nothing"}])
    assert trained(session, chosen(session)).backbones == ()
    assert "method 'mean': pretrain must return a Pretrained" in session.provenance.failures[0]["reason"]


def test_a_backbone_of_a_network_that_nobody_knows_is_said_when_its_method_ends(start, chosen) -> None:
    session = start(pretrain=[{"use": "mean", "mood": "misnamed"}])
    assert trained(session, chosen(session)).backbones == ()
    reason = session.provenance.failures[0]["reason"]
    assert "method 'mean': backbone.safetensors is not a backbone of ctkit" in reason
    assert "no network is called 'convnext_tinny'; did you mean 'convnext_tiny'?" in reason
    assert reason.endswith("; write it with ctkit_torch.backbones.save_backbone")
    session.registry.notify("ctkit_run_finished", run=session.info)  # listeners close their files


def test_a_second_start_trains_nothing_and_shows_everything(start, chosen, noted) -> None:
    first = start(**MEAN)
    trained(first, chosen(first))
    again = start(**MEAN)
    data = found_before(again, plan_jobs(again, chosen(again)))
    assert missing(again, data) == []
    assert [cached for stage, _, cached in noted(again) if stage == "pretrain"] == [True, True]


def test_only_one_arm_is_trained_where_only_that_is_wanted(start, chosen) -> None:
    session = start(**MEAN, only={"arm": "few"})
    data = trained(session, chosen(session))
    assert [job.arm for job in data.backbones] == ["few"]


def test_what_is_shown_of_an_earlier_selection_is_forgotten(start, chosen) -> None:
    session = start(**MEAN)
    trained(session, chosen(session))
    shown = session.folder.pretrain("few", "mean", 42)
    other = start(**MEAN, reduce=[{"use": "all"}, {"use": "every-n", "id": "few", "n": 2}])
    forget_others(other, plan_jobs(other, chosen(other)))
    assert not shown.backbone.exists()
    assert session.folder.pretrain("all", "mean", 42).path.exists(), "which is still the same"


def test_a_baseline_takes_the_grey_levels_of_the_reference_and_no_slices(start, chosen) -> None:
    session = start(**MEAN, baseline=[{"use": "mean", "id": "base"}])
    data = trained(session, chosen(session))
    facts = json.loads(session.folder.baseline("base", 42).facts.read_text())
    reference = json.loads(session.folder.pretrain("all", "mean", 42).facts.read_text())
    assert facts["slices"] == 0
    assert np.isclose(facts["mean"], reference["mean"])
    assert data.backbones[0].item == "base/seed-42"
