"""The question of a run in sentences: how many slices, how good against all and against chance, how sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ctkit import ComparisonRow, Run, quantities
from ctkit_reports import cost, wording
from ctkit_reports.elements import by, main_rows, unique
from ctkit_reports.verdict import aside, gain, verdict

FEW = 4  #: arms that have a sentence each in the answer


def plain(run: Run) -> list[str]:
    """The answer without statistics: what each arm keeps, and whether it is better, worse, or neither is shown."""
    asked = _asked(run) if run.score_rows else []
    if len(asked) > FEW:
        return [_overview(run, asked)]
    return [_plain(run, name) for name in asked] or [headline(run)]


def by_arm(run: Run) -> list[str]:
    """The sentence of each arm, where there are so many that the answer only counts them."""
    asked = _asked(run) if run.score_rows else []
    return [_plain(run, name) for name in asked] if len(asked) > FEW else []


def _overview(run: Run, asked: Sequence[str]) -> str:
    """What comparisons of many arms show, with the names of those that are better or worse in some."""
    shares = [arm.share for arm in map(run.arm, asked) if arm]
    span = " to ".join(unique(wording.percent(end(shares)) for end in (min, max))) if shares else ""
    parts = [f"{quantities.count(len(asked), 'arm')}{f' keep {span} of the slices' if span else ''}."]
    for contrast, rows in by(lambda row: row.contrast, _primary(run)).items():
        others = wording.listing([f"“{name}”" for name in unique(row.reference for row in rows)])
        named = (
            f"{kind}: {', '.join(f'“{name}”' for name in unique(row.arm for row in rows if verdict(row) == kind))}"
            for kind in unique(verdict(row) for row in rows)
            if kind in ("better", "worse")
        )
        other = "arms of the same size" if contrast == "same size" else others
        parts.append(f"{'; '.join([f'Compared with {other}: {_shown(rows)}', *named])}.")
    return " ".join(parts)


def _plain(run: Run, name: str) -> str:
    arm, rows = run.arm(name), [row for row in _primary(run) if row.arm == name]
    parts = [f"“{name}” keeps {wording.percent(arm.share)} of the slices." if arm else f"“{name}”."]
    for (other, contrast), group in by(lambda row: (row.reference, row.contrast), rows).items():
        size = ", which keeps as many" if contrast == "same size" else ""
        parts.append(f"Compared with “{other}”{size}: {_shown(group)}.")
    return " ".join(parts)


def _shown(rows: Sequence[ComparisonRow]) -> str:
    """What comparisons show, counted where they differ: "better in 1 and no difference shown in 2 of 3 comparisons"."""
    counts = Counter(verdict(row) for row in rows)
    if len(counts) == 1:
        where = {1: "", 2: " in both comparisons"}.get(len(rows), f" in all {len(rows)} comparisons")
        return f"{next(iter(counts))}{where}"
    return f"{wording.listing([f'{kind} in {counts[kind]}' for kind in counts])} of {len(rows)} comparisons"


def headline(run: Run) -> str:
    """The answer in one sentence, with its numbers."""
    if not run.arms:
        return "No arm has been chosen yet."
    if not run.trainings and not run.score_rows:
        return f"This run has selections only: {_smallest(run)} No backbone was trained, so nothing is scored."
    if not run.score_rows:
        return f"Backbones were trained but not scored on any task. {_smallest(run)}"
    if not _primary(run):
        if len(run.arms) == 1:
            return f"There is only one arm, so nothing is compared. {_smallest(run)}"
        known = run.reference
        why = f"Nothing has been compared with “{known}”" if known else "There is no reference arm to compare with"
        return f"{why}, so no arm is called better or worse. {_smallest(run)}"
    return _answer(run, _asked(run)[0])


def further(run: Run) -> tuple[str, ...]:
    """What follows the headline: its margin, what the arms cost, alike pairs, and the answer of every other arm."""
    asked = _asked(run)
    first = [sentence for arm in asked[:1] for sentence in (*_all_margins(run, arm), *_costs(run, arm))]
    others = [" ".join([_answer(run, arm), *_all_margins(run, arm)]) for arm in asked[1:]]
    return (*first, *others, *_alike_pairs(run))


def _primary(run: Run) -> list[ComparisonRow]:
    """The comparisons that answer the question; of a run that has no families, those with the reference."""
    known = any(row.family for row in run.comparison_rows)
    return [
        row
        for row in main_rows(run.comparison_rows)
        if row.reference not in run.baselines and (row.family == "primary" or not known)
    ]


def _asked(run: Run) -> list[str]:
    """The arms that the question is asked of, as the pipeline orders them."""
    compared = unique(row.arm for row in _primary(run))
    order = [arm.name for arm in run.arms]
    return sorted(compared, key=lambda name: order.index(name) if name in order else len(order))


def _answer(run: Run, name: str) -> str:
    rows = [row for row in _primary(run) if row.arm == name]
    same_size = [row for row in rows if row.contrast == "same size"]
    parts = [_against(group, "") for group in _by_metric([row for row in rows if row not in same_size])]
    parts += [
        _against(group, ", an arm of the same size,")
        for other in unique(row.reference for row in same_size)
        for group in _by_metric([row for row in same_size if row.reference == other])
    ]
    arm = run.arm(name)
    of = quantities.count(arm.slices, "slice") if arm else ""
    kept = f"keeps {quantities.count(arm.kept)} of {of} ({wording.percent(arm.share)}) and " if arm else ""
    text = f"“{name}” {kept}scored {wording.listing(parts)}; {_seeds(run, name)}"
    return f"{text}." if same_size else f"{text}, and no arm of the same size shows whether the choice matters."


def _by_metric(rows: Sequence[ComparisonRow]) -> Iterable[list[ComparisonRow]]:
    return by(lambda row: row.metric, rows).values()


def _against(rows: Sequence[ComparisonRow], what: str) -> str:
    """What comparisons with one arm in one metric show: of a single one its numbers, of several what they span."""
    metric, other = wording.metric(rows[0].metric), f"“{rows[0].reference}”{what}"
    ends = [(row.ci_low, row.ci_high) for row in rows if np.isfinite(row.ci_low) and np.isfinite(row.ci_high)]
    known = len(ends) == len(rows)
    apart = [row.difference for row in rows if np.isfinite(row.difference)]
    if not apart:
        return f"an unknown {metric} against {other.removesuffix(',')} (not tested)"
    span = wording.interval(min(low for low, _ in ends), max(high for _, high in ends), signed=True) if known else ""
    if len(rows) == 1:
        adjusted = f"adjusted {wording.p_statement(p)}" if np.isfinite(p := rows[0].p_adjusted) else ""
        sure = ", ".join(filter(None, [span and f"95 % interval {span}", adjusted]))
        shown = ": ".join(filter(None, [sure, verdict(rows[0])]))
        return f"{aside(rows[0].difference, metric)} {other.removesuffix(',')} ({shown})"
    counts = Counter(verdict(row) for row in rows)
    shown = wording.listing([f"{kind} in {counts[kind]}" for kind in counts])
    differences = " to ".join(unique(wording.difference(end(apart)) for end in (min, max)))
    sure = "; ".join(filter(None, [span and f"95 % intervals inside {span}", shown]))
    return f"{differences} {metric} against {other} in {len(rows)} comparisons ({sure})"


def _seeds(run: Run, arm: str) -> str:
    seeds = len({training.seed for training in run.trainings if training.arm == arm})
    if seeds == 1:
        return "one seed, so the variation of training is not included"
    return f"over {seeds} seeds" if seeds else "the number of seeds is not known"


def _costs(run: Run, arm: str) -> Iterator[str]:
    for method in unique(training.pretrain for training in run.trainings):
        if words := cost.in_words(run, arm, method):
            yield f"Pre-training with {method} on “{arm}”: {words}."


def _all_margins(run: Run, arm: str) -> Iterator[str]:
    for rows in _by_metric([row for row in _primary(run) if row.arm == arm and row.contrast == "reference"]):
        yield from _margins(run, arm, rows)


def _margins(run: Run, arm: str, rows: Sequence[ComparisonRow]) -> Iterator[str]:
    """How much worse than the reference an arm may be by the intervals: the widest, where there are several."""
    ends = [end for row in rows for end in [-min(gain(row, row.ci_low), gain(row, row.ci_high))] if np.isfinite(end)]
    if not ends or len(ends) < len(rows):
        return
    metric, other = wording.metric(rows[0].metric), f"“{rows[0].reference}”"
    margin, supported = run.pipeline.get("report", {}).get("margin"), max(ends)
    value = f"{wording.score(np.ceil(supported * 1000 - 1e-6) / 1000)} {metric}"  # rounded up
    interval, support = ("interval", "supports") if len(rows) == 1 else ("intervals", "support")
    if supported <= 0:
        yield f"“{arm}” is not worse than {other}: the whole {interval} {support} this."
    elif margin is None:
        yield f"“{arm}” may be worse than {other} by {value} at most, the smallest margin the {interval} {support}."
    elif supported <= margin:
        yield f"“{arm}” is within {margin:g} of {other}; the {interval} {support} {value}."
    else:
        yield f"“{arm}” is not shown to be within {margin:g} of {other}; the {interval} {support} {value}."


def _alike_pairs(run: Run) -> Iterator[str]:
    """How many pairs in a batch are alike, by which the paper explains what reduction gains."""
    for method in unique(training.pretrain for training in run.trainings):
        shares = []
        for arm in run.arms:
            trainings = cost.trainings_of(run, arm.name, method)
            means = [t.history["alike-pairs"][1].mean() for t in trainings if "alike-pairs" in t.history]
            if means:
                shares.append(f"“{arm.name}” {wording.percent(float(np.mean(means)))}")
        if shares:
            yield f"Near-duplicate pairs in a batch, which act as false negatives, with {method}: {', '.join(shares)}."


def _smallest(run: Run) -> str:
    arm = min(run.arms, key=lambda arm: arm.kept)
    if arm.kept == arm.slices:
        return f"Every arm keeps all of {quantities.count(arm.slices, 'slice')}."
    kept, share = quantities.count(arm.kept), wording.percent(arm.share)
    return f"“{arm.name}” keeps least, {kept} of {quantities.count(arm.slices, 'slice')} ({share})."
