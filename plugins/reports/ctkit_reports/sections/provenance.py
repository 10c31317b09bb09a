"""What is needed to repeat the run, but for the paths."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ctkit import Run, redaction
from ctkit.hookspecs import STAGES
from ctkit_reports import wording
from ctkit_reports.elements import Table, by, number, table, text


def provenance(run: Run) -> dict[str, Any]:
    """What is needed to repeat the run, but for the paths."""
    facts = run.facts
    return {
        "facts": list(_run_facts(facts)),
        "command": command_line(facts.get("command", [])),
        "pipeline": as_toml(run.pipeline),
        "stages": _stages(facts.get("stages", [])),
        "plugins": _plugins(facts.get("plugins", [])),
        "notes": list(_notes(run)),
    }


def _notes(run: Run) -> Iterable[str]:
    """Notes on the run as a whole; the other sections show those of trainings and tasks."""
    for note in run.facts.get("notes", []):
        if isinstance(note, Mapping) and not note["item"]:  # earlier versions did not say what a note is about
            yield redaction.without_paths(note["text"])


def _run_facts(facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key in ("ctkit", "python", "platform", "device", "fingerprint", "started", "finished", "state"):
        if facts.get(key):
            title = {"ctkit": "ctkit", "fingerprint": "Data fingerprint"}.get(key, key.capitalize())
            form = wording.moment if key in ("started", "finished") else redaction.without_paths
            yield title, form(str(facts[key]))
    yield "Seeds", ", ".join(map(str, facts.get("seeds", [])))


def _stages(stages: Sequence[Mapping[str, Any]]) -> Table | None:
    rows = [
        {
            "Stage": text(name),
            "Items": number(len(group)),
            "Of these from the cache": number(sum(stage["cached"] for stage in group)),
            "Time of the others": number(
                sum(stage["seconds"] for stage in group if not stage["cached"]) or None, wording.duration
            ),
        }
        for name, group in by(lambda stage: str(stage["stage"]), stages).items()
    ]
    return table("Time per stage", rows)


def _plugins(plugins: Sequence[Mapping[str, Any]]) -> Table | None:
    columns = {
        "Plugin": "name",
        "Kind": "kind",
        "Distribution": "distribution",
        "Version": "version",
        "Version of its results": "results_version",
    }
    rows = [{column: text(str(plugin[key])) for column, key in columns.items()} for plugin in plugins]
    return table("Plugins that were used", rows)


# --- as a person writes it ----------------------------------------------------------------------------------------


def command_line(command: list[str]) -> str:
    """The command that made the run: the pipeline file is called PIPELINE.toml, values of options are redacted."""
    return " ".join(["ctkit", *command[1:2], *(_argument(word) for word in command[2:])])


def _argument(word: str) -> str:
    if word.endswith(".toml"):
        return "PIPELINE.toml"
    name, equals, value = word.partition("=")
    if equals:
        return f"{name}={redaction.redacted(value, name.rpartition('.')[2])}"
    if word in STAGES or re.fullmatch(r"-{1,2}[a-z-]+", word):
        return word
    return redaction.HIDDEN  # a bare word may name anything


def as_toml(pipeline: Mapping[str, Any]) -> str:
    """A redacted pipeline in the form of a pipeline file: a table per section, everything below it inline."""
    blocks = []
    for section, content in redaction.redacted(pipeline).items():
        if isinstance(content, Mapping):
            blocks.append(_block(f"[{section}]", content))
        elif isinstance(content, list):
            blocks += [_block(f"[[{section}]]", table) for table in content]
    return "\n\n".join(blocks)


def _block(title: str, table: Mapping[str, Any]) -> str:
    return "\n".join([title, *(f"{key} = {_value(value)}" for key, value in table.items() if value is not None)])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = (f"{key} = {_value(item)}" for key, item in value.items() if item is not None)
        return "{ " + ", ".join(inner) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)
