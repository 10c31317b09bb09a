from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import ctkit_models
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


def test_training_imports_no_matplotlib_and_hides_it_from_nobody_else() -> None:
    code = (
        "import sys\n"
        "from ctkit_models.simclr import SimCLR\n"
        "try:\n"
        "    SimCLR().pretrain(None)\n"
        "except AttributeError:\n"  # the engine is there and finds no job
        "    pass\n"
        "from lightning_utilities.core.imports import RequirementCache\n"
        "assert RequirementCache('matplotlib')\n"
        "print({'ctkit_models.engine', 'torchmetrics', 'matplotlib'} & set(sys.modules) == "
        "{'ctkit_models.engine', 'torchmetrics'})"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert printed.stdout == "True\n"


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


@pytest.mark.parametrize(
    ("asked", "slices", "pieces", "batch", "note"),
    [
        (128, 1000, 8, 128, None),
        (100, 1000, 8, 96, "batch lowered from 100 to 96: it consists of 8 equal parts of at least 2"),
        (4, 1000, 8, 16, "batch raised from 4 to 16: it consists of 8 equal parts of at least 2"),
        (
            128,
            43,
            2,
            42,
            "batch lowered from 128 to 42: the arm has 43 slices, and it consists of 2 equal parts of at l",
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


def test_what_accumulated_parts_do_not_see_is_said() -> None:
    method = SimCLR(SimCLRParams(batch=128, accumulate=4))
    plan = plan_run(method.params, 1000, 2)
    assert (plan.batch, plan.pieces) == (128, 8)
    assert method.notes(plan) == ("each step adds up 4 parts of 32 slices, which are independent of each other",)


@pytest.mark.parametrize(("sampler", "batch"), [("uniform", 128), ("one-per-volume", 20)])
def test_one_slice_per_volume_lowers_the_batch_to_the_volumes_and_says_why(sampler: str, batch: int) -> None:
    method = SimCLR(SimCLRParams.model_validate({"sampler": sampler}))
    plan = plan_run(method.params, 1000, volumes=20)
    assert (plan.batch, plan.steps_per_epoch) == (batch, 1000 // batch)
    reason = "the arm has 1000 slices of 20 volumes, and sampler one-per-volume uses at most one of each"
    assert method.notes(plan) == ((f"batch lowered from 128 to 20: {reason}",) if batch == 20 else ())
