"""Provenance: what ``run.json`` says of how a run came about."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctkit.files import write_json
from ctkit.hookspecs import VERSION
from ctkit.pipeline_file import Pipeline
from ctkit.session.code import digest_of
from ctkit.session.document import document_of
from ctkit.storage import RunFolder, read_provenance


@dataclass
class Provenance:
    """What ``run.json`` holds; written at the start, after each stage and at the end."""

    folder: RunFolder
    pipeline: Pipeline
    device: str
    state: str = "running"
    stopped_at: str | None = None  #: the last stage that was asked for, where it is not that of the pipeline
    error: str | None = None
    going: list[dict[str, str]] = field(default_factory=list)  #: stage and item of work that goes on
    jobs: int = 1  #: trainings or evaluations at once
    fingerprint: str | None = None
    notes: list[dict[str, str]] = field(default_factory=list)  #: text, and the item that it is about
    failures: list[dict[str, str]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)  #: what each cost, also in an earlier run
    started: str = field(default_factory=lambda: _now())
    report_changes: bool = field(init=False)  #: the page of the folder's earlier start is to show something else
    _earlier: dict[str, Any] = field(init=False)
    _seconds: dict[tuple[str, str], float] = field(init=False)  #: of stages and items in the folder's earlier starts

    def __post_init__(self) -> None:
        self._earlier = read_provenance(self.folder.path)
        times = [*self._earlier.get("unreached", []), *self._earlier.get("stages", [])]
        self._seconds = {(one["stage"], one["item"]): one["seconds"] for one in times}
        known = self._earlier.get("pipeline", {}).get("report")
        self.report_changes = known is not None and known != document_of(self.pipeline)["report"]

    def began(self, stage: str, item: str) -> None:
        """Note what is worked on now."""
        self.going.append({"stage": stage, "item": item})

    def ended(self, stage: str, item: str) -> None:
        """Note that a stage is no longer worked on."""
        self.going = [one for one in self.going if one != {"stage": stage, "item": item}]

    def made(self, stage: str, item: str, seconds: float) -> None:
        """Note that a stage is done."""
        self.ended(stage, item)
        self.stages.append({"stage": stage, "item": item, "seconds": round(seconds, 3), "cached": False})

    def found(self, stage: str, item: str) -> None:
        """Note that a stage's result was there; the time is what an earlier start here took, 0 if none did."""
        seconds = self._seconds.get((stage, item), 0.0)
        self.stages.append({"stage": stage, "item": item, "seconds": seconds, "cached": True})

    @property
    def worked(self) -> bool:
        """Whether anything was not cached."""
        return not all(stage["cached"] for stage in self.stages)

    @property
    def earlier_fingerprint(self) -> str | None:
        """Of the data that this folder's last start was on, None where there is none."""
        return self._earlier.get("fingerprint")

    @property
    def data_changed(self) -> bool:
        """Whether this folder's last start was on other data."""
        return self.earlier_fingerprint not in (None, self.fingerprint)

    @property
    def as_before(self) -> bool:
        """Whether this folder's last start did all that this one does, for the same pipeline and data.

        Its report is then still true.
        """
        now = {"pipeline": json.loads(json.dumps(document_of(self.pipeline))), "fingerprint": self.fingerprint}
        same = all(self._earlier.get(key) == value for key, value in now.items())
        before = {(one["stage"], one["item"]) for one in self._earlier.get("stages", [])}
        same = same and self._reached <= before
        return same and not self.worked and self._earlier.get("state") == self.state

    def _unreached(self) -> list[dict[str, Any]]:
        """What earlier starts took for what this one did not come to, so that a later one still knows."""
        if self.state == "done":  # with the whole pipeline: what else there was is of an earlier one
            return []
        times = [(key, seconds) for key, seconds in self._seconds.items() if key not in self._reached]
        return [{"stage": key[0], "item": key[1], "seconds": seconds} for key, seconds in times]

    @property
    def _reached(self) -> set[tuple[str, str]]:
        return {(one["stage"], one["item"]) for one in self.stages}

    def write(self, *, finished: bool = False) -> None:
        """Write ``run.json``."""
        write_json(
            self.folder.provenance,
            {
                "ctkit": VERSION,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "name": self.pipeline.run.name,
                "command": _command(),
                "started": self.started,
                "finished": _now() if finished else None,
                "state": self.state,
                "stopped_at": self.stopped_at,
                "error": self.error,
                "at": self.going[-1] if self.going else None,
                "failures": self.failures,
                "pipeline": document_of(self.pipeline),
                "plugins": _plugins(self.pipeline),
                "seeds": list(self.pipeline.seeds),
                "device": self.device,
                "jobs": self.jobs,
                "fingerprint": self.fingerprint,
                "stages": self.stages,
                "unreached": self._unreached(),
                "trainings": self.trainings,
                "notes": self.notes,
            },
        )


def _plugins(pipeline: Pipeline) -> list[dict[str, Any]]:
    facts = {
        (chosen.entry.kind, chosen.entry.name, chosen.entry.distribution, chosen.entry.version): {
            "kind": chosen.entry.kind,
            "name": chosen.entry.name,
            "distribution": chosen.entry.distribution,
            "version": chosen.entry.version,
            "results_version": chosen.identity["version"],
            "code": digest_of(chosen.entry) or None,
        }
        for chosen in pipeline.plugins
    }
    return [facts[key] for key in sorted(facts)]


def _command() -> list[str]:
    """The command line; where Python called us, the name of its script, for a notebook's arguments tell nothing."""
    program = Path(sys.argv[0]).name
    return ["ctkit", *sys.argv[1:]] if program in ("ctkit", "ctkit.exe", "__main__.py") else ["python", program]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
