from __future__ import annotations

from typing import Any

import pytest

from ctkit.errors import DataError
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import plan_run


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


def test_an_arm_with_less_than_two_slices_for_each_part_is_refused() -> None:
    with pytest.raises(DataError, match="in 8 parts needs at least 16 slices but the arm has 15"):
        plan_run(ContrastiveParams(accumulate=2), 15, 4)


def test_an_arm_of_one_slice_is_an_error_that_says_what_is_needed() -> None:
    with pytest.raises(DataError, match="at least 2 slices but the arm has 1"):
        plan_run(ContrastiveParams(), 1)


def test_one_slice_per_volume_of_a_single_volume_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match="at least 2 volumes but the arm has 1; use uniform"):
        plan_run(ContrastiveParams(sampler="one-per-volume"), 100, volumes=1)
