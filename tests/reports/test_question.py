"""The first sentence and those that follow it, and what pre-training cost, from a run whose files say other things."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctkit import ComparisonRow, Run, ScoreRow, open_run
from ctkit_reports import cost, question, wording
from ctkit_reports.elements import Looks
from ctkit_reports.sections.answer import answer

RANDOM = "random-like-hash6"
PLACE = ("simclr", "covid-ct", "linear", 1.0)
WITH_ALL = ComparisonRow("hash6", "all", *PLACE, "auc", 0.04, 0.01, 0.07, 0.01, 0.02, "DeLong", "reference", "primary")
WITH_RANDOM = WITH_ALL._replace(
    reference=RANDOM, difference=-0.01, ci_low=-0.04, ci_high=0.02, p_adjusted=0.5, contrast="same size"
)
SECOND = WITH_ALL._replace(arm=RANDOM, difference=0.05, family="secondary")


@pytest.fixture
def run(full_run: Path) -> Run:
    return open_run(full_run)


def altered(run: Run, **changes: object) -> Run:
    """The run as if its files said something else."""
    other = copy.copy(run)
    vars(other).update(changes)
    return other


def compared(run: Run, *rows: ComparisonRow, margin: float | None = None, seeds: Sequence[int] = (42, 43, 44)) -> Run:
    pipeline = run.pipeline | {"report": {"margin": margin}}
    trainings = tuple(training for training in run.trainings if training.seed in seeds)
    return altered(run, comparison_rows=rows, trainings=trainings, facts={**run.facts, "pipeline": pipeline})


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_first_sentence_says_how_many_how_good_and_how_sure(run: Run) -> None:
    assert plain(question.headline(compared(run, WITH_ALL, WITH_RANDOM, SECOND))) == (
        "“hash6” keeps 92 of 643 slices (14.3 %) and scored 0.040 AUC above “all” (95 % interval +0.010 to +0.070, "
        "adjusted p = 0.020: better) and 0.010 AUC below “random-like-hash6”, an arm of the same size (95 % interval "
        "−0.040 to +0.020, adjusted p = 0.500: no difference shown); over 3 seeds."
    )


def test_the_plain_answer_has_a_sentence_for_each_arm_and_no_statistics(run: Run) -> None:
    mixed = WITH_ALL._replace(task="organs", difference=-0.04, ci_low=-0.07, ci_high=-0.01)
    (said,) = question.plain(compared(run, WITH_ALL, mixed, WITH_RANDOM))
    assert plain(said) == (
        "“hash6” keeps 14.3 % of the slices. Compared with “all”: better in 1 and worse in 1 of 2 comparisons."
        f" Compared with “{RANDOM}”, which keeps as many: no difference shown."
    )
    assert [plain(words)[:8] for words in question.plain(run)] == ["“every-n", "“hash6” ", "“random-"]
    assert question.plain(altered(run, score_rows=())) == [question.headline(altered(run, score_rows=()))]


def test_many_arms_are_counted_and_named_where_they_differ(run: Run) -> None:
    rows = [WITH_ALL._replace(arm=f"hash-{n}", p_adjusted=0.01 if n < 2 else 1.0) for n in range(8)]
    found = compared(run, *rows, WITH_RANDOM._replace(arm="hash-7"))
    (said,) = question.plain(found)
    assert plain(said) == (
        "8 arms. Compared with “all”: better in 2 and no difference shown in 6 of 8 comparisons; better: “hash-0”,"
        " “hash-1”. Compared with arms of the same size: no difference shown."
    )
    assert len(question.by_arm(found)) == 8
    assert question.by_arm(run) == []


def test_scores_that_are_unknown_are_not_given_as_numbers(run: Run) -> None:
    unknown = WITH_ALL._replace(difference=math.nan, ci_low=math.nan, ci_high=math.nan, p=math.nan, p_adjusted=math.nan)
    for rows in ([unknown], [unknown, unknown._replace(task="organs")]):
        assert "scored an unknown AUC against “all” (not tested); over" in question.headline(compared(run, *rows))
    known = WITH_ALL._replace(task="organs")
    assert "scored +0.040 AUC against “all” in 2 comparisons" in question.headline(compared(run, unknown, known))


@pytest.mark.parametrize(
    ("arms", "words"), [(1, "only one arm"), (2, "Nothing has been compared with “all”"), (0, "no reference arm")]
)
def test_what_was_not_compared_is_said_as_it_is(run: Run, arms: int, words: str) -> None:
    chosen = run.arms[:arms] or run.arms[1:3]
    assert words in question.headline(altered(run, comparison_rows=(), arms=chosen))


def test_one_seed_is_said_in_the_first_sentence(run: Run) -> None:
    sentence = question.headline(compared(run, WITH_ALL, WITH_RANDOM, seeds=(42,)))
    assert sentence.endswith("; one seed, so the variation of training is not included.")


def test_what_the_choice_adds_is_open_without_an_arm_of_the_same_size(run: Run) -> None:
    sentence = question.headline(compared(run, WITH_ALL))
    assert sentence.endswith("no arm of the same size shows whether the choice matters.")


def test_several_comparisons_are_said_by_what_they_span(run: Run) -> None:
    other = WITH_ALL._replace(task="organs", difference=-0.02, ci_low=-0.05, ci_high=0.01, p_adjusted=0.3)
    words = "95 % intervals inside −0.050 to +0.070; better in 1 and no difference shown in 1"
    sentence = plain(question.headline(compared(run, WITH_ALL, other)))
    assert f"scored −0.020 to +0.040 AUC against “all” in 2 comparisons ({words})" in sentence


def test_a_run_of_an_earlier_version_is_answered_by_its_reference(run: Run) -> None:
    row = WITH_ALL._replace(family="")
    assert "0.040 AUC above “all”" in question.headline(compared(run, row))


def test_the_question_is_asked_of_every_arm_but_the_control(run: Run) -> None:
    every = WITH_ALL._replace(arm="every-n-10")
    found = compared(run, WITH_ALL, WITH_RANDOM, every, SECOND)
    assert question.headline(found).startswith("“every-n-10” keeps")
    said = question.further(found)
    assert sum(sentence.startswith("“hash6” keeps") for sentence in said) == 1
    assert not any(sentence.startswith(f"“{RANDOM}”") for sentence in said)


@pytest.mark.parametrize(
    ("changes", "margin", "words"),
    [
        pytest.param({}, None, "is not worse than “all”: the whole interval supports this.", id="better"),
        pytest.param(
            {"ci_low": -0.0326},
            None,
            "“hash6” may be worse than “all” by 0.033 AUC at most, the smallest margin the interval supports.",
            id="rounded up",
        ),
        pytest.param(
            {"ci_low": -0.0326},
            0.02,
            "not shown to be within 0.02 of “all”; the interval supports 0.033 AUC",
            id="wide",
        ),
        pytest.param({"ci_low": -0.013}, 0.02, "is within 0.02 of “all”; the interval supports 0.013 AUC", id="within"),
        pytest.param(
            {"metric": "brier", "difference": 0.01, "ci_low": -0.01, "ci_high": 0.024},
            0.02,
            "not shown to be within 0.02 of “all”; the interval supports 0.024 Brier score",
            id="an error",
        ),
    ],
)
def test_the_smallest_margin_that_the_interval_supports_is_said(
    run: Run, changes: dict[str, Any], margin: float | None, words: str
) -> None:
    said = question.further(compared(run, WITH_ALL._replace(**changes), margin=margin))
    assert words in said[0]


def test_a_margin_that_is_not_known_everywhere_is_not_said(run: Run) -> None:
    lost = WITH_ALL._replace(task="organs", ci_low=float("nan"), ci_high=float("nan"))
    assert not any("margin" in sentence for sentence in question.further(compared(run, WITH_ALL, lost)))


def test_what_has_no_interval_is_answered_without_one(run: Run) -> None:
    nothing = dict.fromkeys(("ci_low", "ci_high", "p", "p_adjusted"), float("nan"))
    row = WITH_ALL._replace(**nothing)
    assert "0.040 AUC above “all” (not tested)" in plain(question.headline(compared(run, row)))
    assert "(not tested in 2)" in question.headline(compared(run, row, row._replace(task="organs")))


def test_alike_pairs_stand_beside_the_answer(run: Run) -> None:
    (sentence,) = (plain(words) for words in question.further(run) if words.startswith("Near-duplicate pairs"))
    for arm in run.arms:
        means = [training.history["alike-pairs"][1].mean() for training in cost.trainings_of(run, arm.name, "simclr")]
        assert f"“{arm.name}” {plain(wording.percent(sum(means) / len(means)))}" in sentence


# --- what it cost -------------------------------------------------------------------------------------------------


def with_facts(run: Run, arm: str, **facts: object) -> Run:
    """The run with other facts of the trainings of an arm, or of all arms for ""."""
    changed = (replace(t, facts={**t.facts, **facts}) if arm in ("", t.arm) else t for t in run.trainings)
    return altered(run, trainings=tuple(changed))


def test_the_load_of_a_machine_is_no_saving(run: Run) -> None:
    """Equal steps of equal batches are equal work, whatever the clock said."""
    equal = with_facts(with_facts(run, "", steps=500, batch=64), "hash6", seconds=1.0, slices_per_second=32_000.0)
    assert cost.saving(equal, "hash6", "simclr") == 1
    assert "the same cost as “all” (equal steps): less data, not less work" in " ".join(question.further(equal))


def test_fewer_steps_and_smaller_batches_and_views_cost_less(run: Run) -> None:
    small = with_facts(with_facts(run, "", steps=500, batch=64), "hash6", steps=250, batch=32, parameters={"size": 1})
    assert cost.saving(small, "hash6", "simclr") == pytest.approx(4)
    assert cost.in_words(small, "hash6", "simclr").startswith("4.0 × less cost than “all”")


def test_equal_epochs_are_said(run: Run) -> None:
    epochs = with_facts(with_facts(run, "", steps=500, epochs=10.0), "hash6", steps=70)
    assert cost.in_words(epochs, "hash6", "simclr") == "7.1 × less cost than “all” (equal epochs)"


def test_a_method_that_trains_nothing_has_no_cost(run: Run) -> None:
    assert cost.in_words(with_facts(run, "all", steps=0), "hash6", "simclr") == ""
    assert cost.in_words(with_facts(run, "hash6", steps=0), "hash6", "simclr") == ""


def test_what_was_not_trained_has_no_cost(run: Run) -> None:
    without = altered(run, trainings=tuple(training for training in run.trainings if training.arm != "all"))
    assert cost.in_words(without, "hash6", "simclr") == ""


def test_masks_stand_beside_classes_each_in_its_own_metric(run: Run) -> None:
    masks = WITH_ALL._replace(protocol="segment", metric="dice", difference=-0.02, ci_low=-0.03, ci_high=-0.01)
    told = [WITH_ALL, masks, masks._replace(metric="hd95", difference=5.0)]
    scores = [ScoreRow(row.arm, *row.place, "all", "all", row.metric, 0.7, 0.6, 0.8, 0.0, 0.0) for row in told]
    other = altered(compared(run, *told), score_rows=tuple(scores))
    assert [plain(words) for words in question.plain(other)] == [
        "“hash6” keeps 14.3 % of the slices. Compared with “all”: better in 1 and worse in 1 of 2 comparisons."
    ]
    sentence = question.headline(other)
    assert "scored 0.040 AUC above “all” (" in sentence
    assert "0.020 Dice below “all” (" in sentence
    first = answer(other, Looks.of(other))
    assert len(first["plots"]) == 2
    assert {"AUC", "Dice"} <= {term for term, _ in first["terms"]}
    assert first["scores"].columns[-2:] == ("covid-ct, linear, AUC", "covid-ct, segment, Dice")
