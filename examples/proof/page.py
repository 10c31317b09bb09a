"""Writes docs/proof.md: the design, which was there first, and what the runs of a folder say.

python examples/proof/page.py [FOLDER] [--docs DOCS]
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import ARMS, MARGIN, REDUNDANCIES, UNTRAINED, Backbone, Estimate, Study, adjusted, primary, read_study

from ctkit.files import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
TASKS = {"phantom-regions": "region of the body", "phantom-lesions": "lesion", "phantom-organs": "organs"}
LOOKS = {
    "all": ("#4a5560", "o"),
    "hash": ("#0068a8", "s"),
    "random": ("#c8500a", "^"),
    "one-per-volume": ("#007a58", "D"),
}
SECONDARY = (("one-per-volume", "all"), ("random", "all"))


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/proof"))
    parser.add_argument("--docs", type=Path, default=DOCS)
    words = parser.parse_args()
    write_page(words.folder, words.docs)


def write_page(folder: Path, docs: Path = DOCS) -> None:
    """Write the page, its plots, and the score of each backbone into the folder of the documentation."""
    study = read_study({redundancy: folder / f"redundancy-{redundancy}" for redundancy in REDUNDANCIES})
    if not study.seeds:
        raise SystemExit(f"{folder} has no seed with a training in every cell")
    lines = [*(HERE / "design.md").read_text(encoding="utf-8").splitlines(), "", *results(study)]
    if (folder / "real").exists():
        lines += ["", *real_results(read_study({1: folder / "real"}))]
    write_text(docs / "proof.md", "\n".join(lines).rstrip() + "\n")
    (docs / "proof").mkdir(exist_ok=True)
    working = [task for task in study.samples if study.works(task)]
    write_bytes(docs / "proof" / "scores.svg", _figure(study, list(study.samples), _draw_scores))
    for name, draw in (("differences", _draw_differences), ("pairs", _draw_pairs)) if working else ():
        write_bytes(docs / "proof" / f"{name}.svg", _figure(study, working, draw))
    write_text(docs / "proof" / "scores.csv", _table(study))


# --- words --------------------------------------------------------------------------------------------------------


def results(study: Study) -> Iterator[str]:
    """Markdown lines."""
    tasks = list(study.samples)
    first = next(iter(study.trainings.values()))
    yield "## Results, in small"
    yield ""
    yield (
        f"These are results **in small**: the network `{first.backbone}` on {first.size}-pixel views, {first.steps}"
        f" steps of {first.batch} slices, {_count(len(study.trainings), 'training')} with"
        f" {_count(len(study.seeds), 'seed')}, on the {'CPU' if first.device == 'cpu' else 'GPU'}."
        " They say nothing of large networks, long trainings or real CT. The score of each backbone is in"
        " [scores.csv](proof/scores.csv)."
    )
    yield from ("", *_summary(study), "")
    yield from ("### Slices and near-duplicate pairs", "", "| redundancy | arm | slices kept | near-duplicate pairs |")
    yield "|--:|---|--:|--:|"
    for redundancy in REDUNDANCIES:
        for arm in ARMS:
            kept, alike = study.mean(arm, redundancy, "kept"), study.mean(arm, redundancy, "alike")
            yield f"| {redundancy} | {arm} | {kept:.0f} | {100 * alike:.2f} % |"
    yield from ("", "### Positive control: all less untrained", "")
    yield from _by_redundancy("task", [
        (TASKS.get(task, task), [study.difference(task, "all", UNTRAINED, r) for r in REDUNDANCIES]) for task in tasks
    ])  # fmt: skip
    for task in tasks:
        if not study.works(task):
            yield from ("", f"The positive control fails on {TASKS.get(task, task)}: no arm is compared on it.")
    yield from ("", "### Scores", "", "![AUC of each arm at each redundancy](proof/scores.svg)", "")
    working = [task for task in tasks if study.works(task)]
    if not working:
        return
    yield from _by_redundancy("task, arm", [
        (f"{TASKS.get(task, task)}, {arm}", [study.score(task, arm, r) for r in REDUNDANCIES])
        for task in tasks for arm in (*ARMS, UNTRAINED)
    ], signed=False)  # fmt: skip
    yield from ("", "### Primary contrasts", "", "![Differences with their intervals](proof/differences.svg)", "")
    yield from (f"P values are adjusted over {_count(len(_primary(study)), 'test')}, intervals are not.", "")
    yield from ("| task | contrast | redundancy | difference | adjusted p | in words |", "|---|---|--:|---|--:|---|")
    for (task, arm, other, redundancy), one in _primary(study):
        words = f"{TASKS.get(task, task)} | {arm} less {other} | {redundancy}"
        yield f"| {words} | {_signed(one)} | {_p(one.adjusted)} | {one.verdict} |"
    yield from ("", "### Secondary contrasts", "")
    yield from _by_redundancy("task, contrast", [
        (f"{TASKS.get(task, task)}, {arm} less {other}", [study.difference(task, arm, other, r) for r in REDUNDANCIES])
        for task in working for arm, other in SECONDARY
    ], verdicts=True)  # fmt: skip
    yield from (
        "",
        "### Dose-response and explanation",
        "",
        "| task | slope | AUC | p | in words |",
        "|---|---|---|--:|---|",
    )
    for task in working:
        for name, one in _slopes(study, task):
            yield f"| {TASKS.get(task, task)} | {name} | {_signed(one)} | {_p(one.p)} | {one.verdict} |"
    yield from ("", "![AUC against near-duplicate pairs in a batch](proof/pairs.svg)", "")


def _summary(study: Study) -> Iterator[str]:
    """What holds, in sentences whose words come from the intervals alone."""
    working = [task for task in study.samples if study.works(task)]
    yield from ("### What holds", "")
    if not working:
        yield "The positive control fails on every task, so nothing is said of any arm."
        return
    yield f"- The positive control holds on {_listed(TASKS.get(task, task) for task in working)}."
    if failing := [TASKS.get(task, task) for task in study.samples if task not in working]:
        yield f"- It fails on {_listed(failing)}: nothing is said of any arm there."
    found = list(_primary(study))
    for other, question in (("all", "hash less all"), ("random", "hash less random, of equal size")):
        verdicts = [one.verdict for (_, _, reference, _), one in found if reference == other]
        yield f"- {question}: {_counted(verdicts)}."
    for arm, other in SECONDARY:
        verdicts = [study.difference(task, arm, other, r).verdict for task in working for r in REDUNDANCIES]
        yield f"- {arm} less {other}, unadjusted: {_counted(verdicts)}."
    for task in working:
        for name, one in _slopes(study, task):
            yield f"- {TASKS.get(task, task)}, {name}: {_signed(one)}, {one.verdict}."
    verdicts = {one.verdict for _, one in found}
    if verdicts == {f"no effect beyond {MARGIN:g}"}:
        before, after = (
            " to ".join(f"{100 * share:.1f} %" for share in (min(shares), max(shares)))
            for shares in ([study.mean(arm, r, "alike") for r in REDUNDANCIES] for arm in ("all", "hash"))
        )
        yield (
            f"- So the answer is **no effect beyond {MARGIN:g}** of AUC, on this scale and where the control holds: of"
            f" the pairs in a batch {before} are near-duplicates with all and {after} with hash. A smaller effect is"
            " not excluded."
            " For large networks and long trainings the claim of the paper is neither shown nor refuted."
        )
    widest = max(one.high - one.low for _, one in found) / 2
    yield f"- What could be seen: primary contrasts have intervals of up to {widest:.3f} to either side."


def real_results(study: Study) -> Iterator[str]:
    """Markdown lines on the run on real scans."""
    yield "## Results on real scans, in small"
    yield ""
    kept = ", ".join(f"{study.mean(arm, 1, 'kept'):.0f} of {arm}" for arm in ARMS[:3])
    yield f"{_count(len(study.trainings), 'training')} with {_count(len(study.seeds), 'seed')}; slices: {kept}."
    yield from ("", "| task | contrast | difference | adjusted p | in words |", "|---|---|---|--:|---|")
    for task in study.samples:
        control = study.difference(task, "all", UNTRAINED, 1)
        words = "the positive control holds" if study.works(task) else "the positive control fails"
        yield f"| {TASKS.get(task, task)} | all less untrained | {_signed(control)} | | {words} |"
    for (task, arm, other, _), one in _primary(study):
        yield f"| {TASKS.get(task, task)} | {arm} less {other} | {_signed(one)} | {_p(one.adjusted)} | {one.verdict} |"


def _primary(study: Study) -> list[tuple[tuple[str, str, str, int], Estimate]]:
    contrasts = list(primary(study))
    return list(zip(contrasts, adjusted([study.difference(*one) for one in contrasts]), strict=True))


def _slopes(study: Study, task: str) -> Iterator[tuple[str, Estimate]]:
    yield "all, for ten times the slices", study.dose_response(task, "all")
    yield "hash less all, for ten times the slices", study.dose_response(task, "hash", "all")
    yield "for one more percent of near-duplicate pairs", study.explanation(task)


def _by_redundancy(
    name: str, rows: Iterable[tuple[str, Sequence[Estimate]]], *, signed: bool = True, verdicts: bool = False
) -> Iterator[str]:
    yield f"| {name} | {' | '.join(f'redundancy {redundancy}' for redundancy in REDUNDANCIES)} |"
    yield "|---" + "|---" * len(REDUNDANCIES) + "|"
    for title, estimates in rows:
        cells = [(_signed(one) if signed else _plain(one)) + f", {one.verdict}" * verdicts for one in estimates]
        yield f"| {title} | {' | '.join(cells)} |"


def _signed(one: Estimate) -> str:
    return f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})".replace("-", "−")


def _plain(one: Estimate) -> str:
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)


def _counted(verdicts: Sequence[str]) -> str:
    return f"{_listed(f'{verdicts.count(one)} {one}' for one in dict.fromkeys(verdicts))}, of {len(verdicts)}"


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _table(study: Study) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("task", "arm", "redundancy", "seed", "auc", "kept", "alike_pairs"))
    for task, sample in study.samples.items():
        for name, value in zip(sample.backbones, sample.values.tolist(), strict=True):
            training = study.trainings.get(Backbone(*name))
            more = (training.kept, f"{training.alike:.5f}") if training else ("", "")
            table.writerow((task, *name, f"{value:.5f}", *more))
    return text.getvalue()


# --- plots --------------------------------------------------------------------------------------------------------


def _figure(study: Study, tasks: Sequence[str], draw: Any) -> bytes:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style = {"svg.fonttype": "none", "svg.hashsalt": "ctkit", "font.size": 10, "axes.spines.top": False,
             "axes.spines.right": False, "axes.grid": True, "grid.linewidth": 0.4, "axes.axisbelow": True}  # fmt: skip
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, len(tasks), figsize=(max(4.6 * len(tasks), 6.5), 3.6), squeeze=False)
        for axis, task in zip(axes[0], tasks, strict=True):
            axis.set_title(TASKS.get(task, task))
            draw(axis, study, task)
        handles = {
            label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        columns, foot = (5, 0.08) if len(tasks) > 1 else (2, 0.16)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False)
        figure.tight_layout(rect=(0, foot, 1, 1))
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
        plt.close(figure)
    return target.getvalue()


def _draw_scores(axis: Axes, study: Study, task: str) -> None:
    for shift, arm in enumerate(ARMS):
        _points(axis, arm, shift - 1.5, [study.score(task, arm, r) for r in REDUNDANCIES])
    untrained = [study.score(task, UNTRAINED, r) for r in REDUNDANCIES]
    axis.plot(range(len(REDUNDANCIES)), [one.value for one in untrained], "--", color="#888", label=UNTRAINED)
    axis.fill_between(range(len(REDUNDANCIES)), [o.low for o in untrained], [o.high for o in untrained], color="#8883")
    axis.set_ylabel("AUC, 95 % interval")


def _draw_differences(axis: Axes, study: Study, task: str) -> None:
    contrasts = (("hash", "all"), ("hash", "random"), *SECONDARY)
    looks = dict(zip(contrasts, ("hash", "all", "one-per-volume", "random"), strict=True))
    for shift, (arm, other) in enumerate(contrasts):
        estimates = [study.difference(task, arm, other, r) for r in REDUNDANCIES]
        _points(axis, looks[arm, other], shift - 1.5, estimates, f"{arm} less {other}")
    axis.axhspan(-MARGIN, MARGIN, color="#8883", lw=0)
    axis.axhline(0, color="#444", lw=0.8)
    axis.set_ylabel("difference of AUC, 95 % interval")


def _points(axis: Axes, look: str, shift: float, estimates: Sequence[Estimate], label: str | None = None) -> None:
    colour, marker = LOOKS[look]
    x = [number + 0.12 * shift for number in range(len(estimates))]
    y = [one.value for one in estimates]
    reach = [[one.value - one.low for one in estimates], [one.high - one.value for one in estimates]]
    axis.errorbar(x, y, reach, fmt=marker, ms=5, lw=1.4, color=colour, label=label or look)
    axis.set_xticks(range(len(REDUNDANCIES)), [str(redundancy) for redundancy in REDUNDANCIES])
    axis.set_xlabel("redundancy")


def _draw_pairs(axis: Axes, study: Study, task: str) -> None:
    sample = study.samples[task]
    score = dict(zip(sample.backbones, sample.values.tolist(), strict=True))
    for arm, (colour, marker) in LOOKS.items():
        found = [(100 * one.alike, score[name]) for name, one in study.trainings.items() if name.arm == arm]
        axis.plot(*zip(*found, strict=True), marker, ms=5, color=colour, label=arm, alpha=0.7)
    axis.set_xlabel("near-duplicate pairs in a batch, %")
    axis.set_ylabel("AUC")


if __name__ == "__main__":
    main()
