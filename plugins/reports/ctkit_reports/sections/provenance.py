"""What is needed to repeat the run, but for the paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctkit import Run, redaction
from ctkit_reports import naming, wording
from ctkit_reports.elements import Table, number, table, text, unique


@dataclass(frozen=True)
class Provenance:
    """The last section."""

    facts: tuple[tuple[str, str], ...]
    command: str
    pipeline: str
    stages: Table | None
    plugins: Table | None
    notes: tuple[str, ...]


def provenance(run: Run) -> Provenance:
    """What is needed to repeat the run, but for the paths."""
    facts = run.facts
    return Provenance(
        facts=tuple(_run_facts(facts)),
        command=redaction.command_line(facts.get("command", [])),
        pipeline=redaction.as_toml(run.pipeline),
        stages=_stages(facts.get("stages", [])),
        plugins=_plugins(facts.get("plugins", [])),
        notes=tuple(_notes(run)),
    )


def _notes(run: Run) -> Iterable[str]:
    """Notes on the run as a whole; the other sections show those of trainings and tasks."""
    of_tasks = tuple(f"{task}: " for task in unique(row.task for row in run.predictions))
    return (
        redaction.without_paths(note) for item, note in naming.notes(run) if not item and not note.startswith(of_tasks)
    )


def _run_facts(facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for title, key in (
        ("ctkit", "ctkit"),
        ("Python", "python"),
        ("Platform", "platform"),
        ("Device", "device"),
        ("Data fingerprint", "fingerprint"),
        ("Started", "started"),
        ("Finished", "finished"),
        ("State", "state"),
    ):
        if facts.get(key):
            yield title, _shown(key, str(facts[key]))
    yield "Seeds", ", ".join(map(str, facts.get("seeds", [])))


def _shown(key: str, value: str) -> str:
    return wording.moment(value) if key in ("started", "finished") else redaction.without_paths(value)


def _stages(stages: Sequence[Mapping[str, Any]]) -> Table | None:
    rows = []
    for name in unique(stage["stage"] for stage in stages):
        group = [stage for stage in stages if stage["stage"] == name]
        spent = sum(stage["seconds"] for stage in group if not stage["cached"])
        cached = sum(stage["cached"] for stage in group)
        rows.append(
            [
                text(name),
                number(len(group)),
                number(cached),
                number(spent, wording.duration(spent) if spent else wording.NOTHING),
            ]
        )
    return table("Time per stage", ("Stage", "Items", "Of these from the cache", "Time of the others"), rows)


def _plugins(plugins: Sequence[Mapping[str, Any]]) -> Table | None:
    columns = ("Plugin", "Kind", "Distribution", "Version", "Version of its results")
    rows = [
        [text(str(plugin[key])) for key in ("name", "kind", "distribution", "version", "results_version")]
        for plugin in plugins
    ]
    return table("Plugins that were used", columns, rows)
