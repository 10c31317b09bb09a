from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ctkit_models.parameters import ContrastiveParams


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
