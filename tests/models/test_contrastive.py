from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
from pydantic import ValidationError

import ctkit_models
from ctkit.errors import DataError
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import plan_run
from ctkit_models.simclr import SimCLR, SimCLRParams


def test_listing_validating_and_describing_methods_imports_no_torch() -> None:
    code = (
        "import sys, ctkit_models, ctkit.hookspecs\n"
        "from importlib import import_module\n"
        "for spec in ctkit_models.ctkit_register_methods():\n"
        "    module, name = spec.target.split(':')\n"
        "    getattr(import_module(module), name).params_type().model_json_schema()\n"
        "print({'torch', 'lightly', 'pytorch_lightning', 'torchvision'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert printed.stdout == "set()\n"


def test_the_public_names_are_there_and_no_others() -> None:
    assert {name: getattr(ctkit_models, name).__name__ for name in ctkit_models.__all__} == {
        name: name for name in ("Contrastive", "ContrastiveParams", "Network", "Plan", "Trunk", "full_precision")
    }
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = ctkit_models.Nothing


def test_every_parameter_of_every_method_is_described() -> None:
    for spec in ctkit_models.ctkit_register_methods():
        module, name = spec.target.split(":")
        fields = getattr(import_module(module), name).params_type.model_fields
        assert [name for name, field in fields.items() if not field.description] == []


def test_what_only_makes_a_training_faster_or_smaller_is_no_part_of_an_address() -> None:
    silent = {
        name
        for name, field in ContrastiveParams.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("address") is False
    }
    assert silent == {"checkpointing", "channels_last", "compile", "checkpoint_minutes", "log_every"}


def test_steps_take_the_place_of_the_default_epochs() -> None:
    assert (ContrastiveParams(steps=100).steps, ContrastiveParams(steps=100).epochs) == (100, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 5, "epochs": 5}, "give either epochs or steps"),
        ({"epochs": None}, "give either epochs or steps"),
        ({"epochs": 5, "warmup": 5}, "warmup must be shorter than the run of 5 epochs but is 5"),
        ({"steps": 5, "warmup": 6}, "warmup must be shorter than the run of 5 steps but is 6"),
        ({"backbone": "resnet5"}, "no network is called 'resnet5'; did you mean 'resnet50'"),
        ({"scale": [0.5, 0.2]}, r"must be \[low, high\] but is \[0.5, 0.2\]"),
        ({"scale": [0.0, 0.2]}, "greater than 0"),
        ({"scale": [0.5, 1.2]}, "less than or equal to 1"),
        ({"batch": 1}, "greater than or equal to 2"),
        ({"compile": True, "checkpointing": True}, "give either compile or checkpointing"),
        ({"rate": 1}, "Extra inputs are not permitted"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ContrastiveParams.model_validate(given)


@pytest.mark.parametrize(
    ("params", "slices", "batch", "steps", "warmup"),
    [
        ({"epochs": 100}, 1000, 128, 700, 70),
        ({"epochs": 100, "warmup": 3}, 1000, 128, 700, 21),
        ({"epochs": 1000}, 1000, 128, 7000, 70),
        ({"epochs": 2}, 500, 128, 6, 0),
        ({"steps": 200}, 1000, 128, 200, 20),
        ({"steps": 200, "warmup": 7}, 1000, 128, 200, 7),
        ({"epochs": 5}, 43, 43, 5, 0),
    ],
)
def test_a_plan_counts_real_steps(params: dict[str, Any], slices: int, batch: int, steps: int, warmup: int) -> None:
    validated = ContrastiveParams.model_validate(params)
    plan = plan_run(validated, slices)
    assert (plan.batch, plan.steps, plan.part(validated.warmup, epochs=10)) == (batch, steps, warmup)


@pytest.mark.parametrize(
    ("asked", "slices", "pieces", "batch", "note"),
    [
        (128, 1000, 8, 128, None),
        (100, 1000, 8, 96, "batch lowered from 100 to 96: it is made of 8 equal parts of at least 2"),
        (4, 1000, 8, 16, "batch raised from 4 to 16: it is made of 8 equal parts of at least 2"),
        (
            128,
            43,
            2,
            42,
            "batch lowered from 128 to 42: the arm has 43 slices, and it is made of 2 equal parts of at l",
        ),
    ],
)
def test_a_batch_is_shared_out_in_equal_parts(
    asked: int, slices: int, pieces: int, batch: int, note: str | None
) -> None:
    method = SimCLR(SimCLRParams(batch=asked))
    plan = plan_run(method.params, slices, pieces)
    assert plan.batch == batch
    assert [said.startswith(note or "nothing") for said in method.notes(plan)] == ([True] if note else [])


def test_an_arm_with_less_than_two_slices_for_each_part_is_refused() -> None:
    with pytest.raises(DataError, match="in 8 parts needs at least 16 slices but the arm has 15"):
        plan_run(ContrastiveParams(accumulate=2), 15, 4)


def test_what_accumulated_parts_do_not_see_is_said() -> None:
    method = SimCLR(SimCLRParams(batch=128, accumulate=4))
    plan = plan_run(method.params, 1000, 2)
    assert (plan.batch, plan.pieces) == (128, 8)
    assert method.notes(plan) == ("each step adds up 4 parts of 32 slices, which know nothing of each other",)


def test_an_arm_of_one_slice_is_an_error_that_says_what_is_needed() -> None:
    with pytest.raises(DataError, match="at least 2 slices but the arm has 1"):
        plan_run(ContrastiveParams(), 1)


@pytest.mark.parametrize(("sampler", "batch"), [("uniform", 128), ("one-per-volume", 20)])
def test_one_slice_per_volume_lowers_the_batch_to_the_volumes_and_says_why(sampler: str, batch: int) -> None:
    method = SimCLR(SimCLRParams.model_validate({"sampler": sampler}))
    plan = plan_run(method.params, 1000, volumes=20)
    assert (plan.batch, plan.steps_per_epoch) == (batch, 1000 // batch)
    reason = "the arm has 1000 slices of 20 volumes, and sampler one-per-volume takes no two of one"
    assert method.notes(plan) == ((f"batch lowered from 128 to 20: {reason}",) if batch == 20 else ())


def test_one_slice_per_volume_of_a_single_volume_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match="at least 2 volumes but the arm has 1; use uniform"):
        plan_run(ContrastiveParams(sampler="one-per-volume"), 100, volumes=1)
