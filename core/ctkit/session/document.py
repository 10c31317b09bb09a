"""A resolved pipeline as a document, which resolves to itself: what ``run.json`` says of it."""

from __future__ import annotations

from typing import Any

from ctkit.pipeline_file import Arm, Chosen, Pipeline


def document_of(pipeline: Pipeline) -> dict[str, Any]:
    """Return a pipeline as its file would have it, with defaults filled in and no keys left out."""
    return {
        "run": pipeline.run.model_dump(mode="json"),
        "compute": pipeline.compute.model_dump(mode="json"),
        "report": pipeline.report.model_dump(mode="json"),
        "dataset": _described(pipeline.dataset) | pipeline.rendering.model_dump(mode="json"),
        "reduce": [_described_arm(arm) for arm in pipeline.arms],
        "pretrain": [{"id": plan.id} | _described(plan.method) for plan in pipeline.pretrains],
        "baseline": [{"id": plan.id} | _described(plan.method) for plan in pipeline.baselines],
        "task": [
            {"id": plan.id, "repeats": plan.repeats, "labels": list(plan.labels), "monitor": plan.monitor}
            | _described(plan.task)
            | {"protocol": _described(plan.protocol)}
            for plan in pipeline.tasks
        ],
        "track": [_described(chosen) for chosen in pipeline.trackers],
        "plugins": pipeline.rules.model_dump(mode="json"),
    }


def _described(chosen: Chosen[Any]) -> dict[str, Any]:
    return {"use": chosen.entry.use} | chosen.params.model_dump(mode="json")


def _described_arm(arm: Arm) -> dict[str, Any]:
    steps = []
    for step in arm.steps:
        whole = {"use": step.reducer.entry.use} | step.parameters | {"scope": step.scope}
        steps.append(whole if step.at != step.at else whole | step.reducer.params.model_dump(mode="json"))
    return {"id": arm.id, "steps": steps, "keep": arm.keep.model_dump(exclude_none=True) if arm.keep else None}
