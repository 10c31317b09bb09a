"""The answer in words: what each comparison shows, and what speaks for caution in believing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import numpy as np

from ctkit import ComparisonRow, Run, RunTraining, quantities, redaction
from ctkit_reports import wording
from ctkit_reports.elements import by, main_rows, metrics

Verdict = Literal["better", "worse", "no difference shown", "not tested"]

LEVEL = 0.05  #: adjusted p below which, with an interval on one side of zero, a difference counts as shown
FEW_STEPS = 1_000
WIDE = 0.05  #: half an interval of a score
MOST_MISSING = 8  #: listed by name
_LOWER_IS_BETTER = ("brier", "ece", "hd95", "log_loss", "nll")  #: how the names of such metrics begin


def verdict(row: ComparisonRow) -> Verdict:
    """What a comparison shows: both its adjusted p value and its interval must agree."""
    if np.isnan(row.p_adjusted):
        return "not tested"
    if row.p_adjusted >= LEVEL or not row.ci_low * row.ci_high > 0:
        return "no difference shown"
    return "better" if gain(row, row.difference) > 0 else "worse"


def gain(row: ComparisonRow, difference: float) -> float:
    """A difference in the metric of a comparison, positive where the arm is better."""
    return -difference if row.metric.startswith(_LOWER_IS_BETTER) else difference


def gains(run: Run) -> list[str]:
    """What pre-training bought at all, a sentence for each baseline."""
    against = by(lambda row: (row.reference, row.metric), main_rows(run.comparison_rows))
    return [
        _gain(name, rows, metrics(rows))
        for baseline in run.baselines
        for (name, _), rows in against.items()
        if name == baseline and np.isfinite([row.difference for row in rows]).any()
    ]


def _gain(baseline: str, rows: list[ComparisonRow], metric: str) -> str:
    counts = Counter(verdict(row) for row in rows)
    words = [f"{kind} in {counts[kind]}" for kind in ("better", "worse") if counts[kind]]
    shown = wording.listing(words) if words else "no difference was shown"
    mean = aside(float(np.nanmean([row.difference for row in rows])), metric)
    of = f"{'of' if words else 'in'} {quantities.count(len(rows), 'comparison')}"
    return f"Pre-training scored {mean} “{baseline}” in the mean: {shown} {of}."


def aside(difference: float, metric: str = "") -> str:
    """A difference from a baseline in words: "0.050 AUC above", or "0.050 AUC below"."""
    words = (wording.score(abs(difference)), metric, "above" if difference >= 0 else "below")
    return " ".join(filter(None, words))


def cautions(run: Run) -> list[str]:
    """What a reader must know before believing the numbers, in the order of weight."""
    return [*_unfinished(run), *_warnings(run), *_training_cautions(run), *_score_cautions(run)]


def _warnings(run: Run) -> list[str]:
    """What the evaluations warn of, with the arms that it holds for where it does not hold for all."""
    warned: dict[tuple[str, str], set[str]] = {}
    for file in run.predictions:
        for warning in file.facts.get("warnings", []):
            warned.setdefault((file.task, warning), set()).add(file.arm)
    arms = {task: {file.arm for file in run.predictions if file.task == task} for task, _ in warned}
    return [
        redaction.without_paths(f"{task}: {warning}") + ("." if of == arms[task] else f" ({', '.join(sorted(of))}).")
        for (task, warning), of in warned.items()
    ]


def _unfinished(run: Run) -> list[str]:
    state = run.facts.get("state", "running")
    found = []
    if state == "failed":
        found.append(f"The run failed: {redaction.without_paths(run.facts.get('error') or 'no reason was recorded')}")
    elif state == "failed in part":
        found.append("Some parts of the run failed; this page shows the others.")
    elif state != "done":
        found.append(f"The run is not complete ({redaction.without_paths(state)}); this page shows the results so far.")
    failures = (
        f"{wording.work(failure['stage'])} of {failure['item'].replace('/', ', ')} failed: "
        f"{redaction.without_paths(failure['reason'])}"
        for failure in run.facts.get("failures", [])
    )
    return [*found, *failures, *missing(run)]


def missing(run: Run) -> list[str]:
    """What the pipeline asks for and the folder lacks, where no failure explains it and nobody stopped the run."""
    if run.facts.get("stopped_at"):
        return []
    failed = {failure["item"] for failure in run.facts.get("failures", [])}
    arms = [arm["id"] for arm in run.pipeline.get("reduce", []) if "id" in arm]
    methods = [method["id"] for method in run.pipeline.get("pretrain", []) if "id" in method]
    trained = {(training.arm, training.pretrain, training.seed) for training in run.trainings}
    lost = [
        f"{arm}: no selection"
        for arm in arms
        if run.arm(arm) is None and arm not in {item.partition("/")[0] for item in failed}
    ]
    lost += [
        f"{arm}, {method}, seed {seed}: no backbone"
        for arm in arms
        if run.arm(arm)
        for method in methods
        for seed in run.facts.get("seeds", [])
        if (arm, method, seed) not in trained and f"{arm}/{method}/seed-{seed}" not in failed
    ]
    more = [f"and {len(lost) - MOST_MISSING} more"] if len(lost) > MOST_MISSING else []
    return [f"Missing from this run: {'; '.join([*lost[:MOST_MISSING], *more])}."] if lost else []


def _training_cautions(run: Run) -> list[str]:
    if not run.trainings:
        return []
    found = list(_collapses(run))
    steps = [training.facts["steps"] for training in run.trainings]
    if max(steps) < FEW_STEPS:
        text = f"Pre-training was short, {quantities.count(max(steps), 'step')} at most"
        found.append(f"{text}: such scores say little about the data, and such times include start-up.")
    if run.reference and _fewer_steps(run.trainings, run.reference):
        found.append(
            "Reduced arms trained for fewer optimiser steps than the reference (equal epochs), so the effects of the"
            " data and of the training length cannot be separated; use equal steps to separate them."
        )
    if len({training.seed for training in run.trainings}) == 1 and run.score_rows:
        found.append(
            "There is one seed: the intervals cover the variation of test images, not that of training, which may be"
            " as large."
        )
    return found


def _collapses(run: Run) -> Iterable[str]:
    collapsed = (training for training in run.trainings if training.facts.get("collapsed"))
    for (arm, method), group in by(lambda training: (training.arm, training.pretrain), collapsed).items():
        seeds = wording.listing([str(training.seed) for training in group])
        which = f"Pre-training of “{arm}” with {method}, {'seed' if len(group) == 1 else 'seeds'} {seeds}"
        yield f"{which}, collapsed: such a backbone does not distinguish slices, and its scores are due to chance."


def _fewer_steps(trainings: Iterable[RunTraining], reference: str) -> bool:
    trainings = list(trainings)
    by_method = {t.pretrain: t.facts["steps"] for t in trainings if t.arm == reference}
    return any(t.facts["steps"] < 0.9 * by_method[t.pretrain] for t in trainings if t.pretrain in by_method)


def _score_cautions(run: Run) -> list[str]:
    pooled = [row for row in main_rows(run.score_rows) if row.pooled]
    halves = [(row.ci_high - row.ci_low) / 2 for row in pooled]
    widest = float(np.nanmax(halves)) if np.isfinite(halves).any() else 0.0
    found = []
    if widest > WIDE:
        text = f"Intervals of the {metrics(pooled)} are up to ±{widest:.2f} wide"
        found.append(f"{text}: only large differences could show here.")
    bare = sum(np.isnan(half) and np.isfinite(row.value) for half, row in zip(halves, pooled, strict=True))
    if bare:
        text = f"{bare} of {quantities.count(len(pooled), 'score')} {'has' if bare == 1 else 'have'} no interval"
        found.append(f"{text}: with so few test images or patients nothing can be tested.")
    if unknown := len({row.arm for row in pooled if np.isnan(row.value)}):
        found.append(f"Some scores of {quantities.count(unknown, 'arm')} are unknown (–) and compared with nothing.")
    return found
