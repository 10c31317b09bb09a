from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from ctkit_models.moco import MoCo, MoCoParams
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import plan_run
from ctkit_models.stretches import Stretches
from ctkit_torch.trunks import Trunk


def trunk_of(step: int) -> Trunk:
    """A trunk that shows how many steps led to it."""
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, step)
    return Trunk(layer, "resnet18", 1)


def stretches_of(steps: int, **params: object) -> Stretches:
    asked = ContrastiveParams.model_validate({"steps": steps, "batch": 4, **params})
    return Stretches(asked, plan_run(asked, 12))


def expected(losses: list[float], warmup: int, patience: float, gain: float) -> tuple[int, int]:
    """The best step and the last, by numpy: a hundredth after the other is averaged, compared and counted."""
    steps = np.arange(1, len(losses) + 1)
    stretch = (steps - 1) * 100 // len(losses)
    best, best_step, bar, gained = math.inf, 0, math.inf, 0
    for number in np.unique(stretch[warmup:]):
        members = steps[(stretch == number) & (steps > warmup)]
        mean, end = np.mean([losses[step - 1] for step in members]), int(members[-1])
        if mean < best:
            best, best_step = mean, end
        if mean < bar:
            bar, gained = mean - gain, end
        if end - max(gained, warmup) >= patience:
            return best_step, end
    return best_step, len(losses)


@settings(max_examples=60, deadline=None)
@given(
    losses=st.lists(st.integers(0, 64).map(lambda loss: loss / 8), min_size=20, max_size=250),
    parts=st.tuples(st.floats(0, 0.9), st.floats(0, 1), st.floats(0, 0.99)),
    gain=st.sampled_from([0.0, 0.5]),
)
def test_the_best_and_the_last_step_are_those_of_the_definition_in_one_sitting_or_two(
    losses: list[float], parts: tuple[float, float, float], gain: float
) -> None:
    steps = len(losses)
    warmup, killed = (int(part * steps) for part in parts[:2])
    patience = max(1, int(parts[2] * (steps - warmup - 1)))
    asked = {"keep": "best", "warmup": warmup, "patience": patience, "least_gain": gain}
    found = stretches_of(steps, **asked)
    for step, loss in enumerate(losses, start=1):
        found.see(torch.tensor(loss), step, trunk_of(step))
        if found.given_up(step):
            break
        if step == killed:
            state, found = found.state_dict(), stretches_of(steps, **asked)
            found.load_state_dict(state)
    assert (found.best_step, step) == expected(losses, warmup, patience, gain)
    kept = trunk_of(0)
    found.restore(kept)
    assert float(kept.network.get_parameter("weight").detach()) == found.best_step == found.kept_step(step)


@given(steps=st.integers(1, 1000))
def test_a_run_has_a_hundred_stretches_at_most_and_the_last_ends_with_it(steps: int) -> None:
    found, trunk = stretches_of(steps, keep="best", warmup=0), trunk_of(1)
    means = [found.see(torch.tensor(1.0), step, trunk) for step in range(1, steps + 1)]
    lengths = [len(list(group)) for judged, group in itertools.groupby(means, lambda mean: mean is None) if judged]
    assert sum(mean is not None for mean in means) == min(100, steps)
    assert means[-1] == 1
    assert all(abs(length + 1 - steps / 100) < 1 for length in lengths), "all are of one length, give or take a step"


def test_nothing_is_judged_where_nobody_asks() -> None:
    found = stretches_of(3, warmup=0)
    assert [found.see(torch.tensor(float(step)), step, trunk_of(step)) for step in (1, 2, 3)] == [None] * 3
    assert not any(found.given_up(step) for step in (1, 2, 3))
    assert (found.kept_step(3), found.notes(3)) == (3, ())


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    found = stretches_of(3, keep="best", warmup=0)
    for step, loss in enumerate((2.0, math.nan, 3.0), start=1):
        found.see(torch.tensor(loss), step, trunk_of(step))
    assert found.best_step == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"steps": 9, "patience": 9}, "patience must be shorter than the run of 9 steps but is 9"),
        ({"epochs": 5, "patience": 7}, "patience must be shorter than the run of 5 epochs but is 7"),
        (
            {"steps": 100, "warmup": 50, "patience": 60},
            "warmup and patience together must be shorter than the run of 100",
        ),
        ({"least_gain": 0.1, "keep": "best"}, "least_gain needs patience"),
    ],
)
def test_what_could_do_nothing_is_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ContrastiveParams.model_validate(params)


def test_moco_is_not_judged_by_the_steps_in_which_its_queue_still_holds_random_keys() -> None:
    method = MoCo(MoCoParams(steps=50, batch=4, queue=30, keep="best"))
    plan = plan_run(method.params, 100)
    found = Stretches(method.params, plan, method.unsettled(plan))
    for step in range(1, 51):
        found.see(torch.tensor(float(step)), step, trunk_of(step))
    assert found.best_step == 9  # 8 batches of 4 keys fill the queue
