"""Pretrain: an arm's rows become a backbone, once for each seed. A killed training goes on from its checkpoint."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctkit.cache import address
from ctkit.catalogue import Catalogue
from ctkit.contracts import Pretrained, Pretraining
from ctkit.errors import StorageError
from ctkit.files import write_csv, write_json
from ctkit.only import Only
from ctkit.plan import PretrainPlan
from ctkit.runs import place
from ctkit.selection import Table
from ctkit.stages.materialise import Shards, materialise, rows_of
from ctkit.stages.select import Selected, Selections, of_seed, selection_digest

if TYPE_CHECKING:
    from ctkit.session import Session

FILES = BACKBONE, HISTORY, FACTS = "backbone.safetensors", "history.csv", "pretrain.json"


@dataclass(frozen=True)
class Job:
    """One pre-training of the plan: an arm, a method and a seed."""

    selected: Selected
    plan: PretrainPlan
    seed: int
    address: str

    @property
    def item(self) -> str:
        """What the job is called in logs and in the run folder."""
        return f"{self.selected.arm.id}/{self.plan.id}/seed-{self.seed}"

    def is_wanted(self, only: Only) -> bool:
        """Whether the user asks for it."""
        return only.wants(arm=self.selected.arm.id, pretrain=self.plan.id, seed=self.seed)


def plan_jobs(session: Session, catalogue: Catalogue, table: Table, selections: Selections) -> list[Job]:
    """Every pre-training that the pipeline asks for, in its order."""
    digests = {key: selection_digest(catalogue, table, chosen.selection) for key, chosen in selections.items()}
    look = session.pipeline.rendering.model_dump(mode="json")
    jobs = []
    for plan in session.pipeline.pretrains:
        for arm in session.pipeline.arms:
            for seed in session.pipeline.seeds:
                chosen = of_seed(selections, arm, seed)
                digest = digests[arm.id, chosen.seed]
                at = address("pretrain", slices=digest, rendering=look, method=plan.method.identity, seed=seed)
                jobs.append(Job(chosen, plan, seed, at))
    return jobs


def pretrain(session: Session, catalogue: Catalogue, table: Table, jobs: list[Job]) -> list[Job]:
    """Do the wanted jobs; return those that have a backbone. One that fails does not stop the others."""
    missing = [job for job in jobs if not folder_of(session, job).is_dir() and job.is_wanted(session.only)]
    shards = materialise(session, catalogue, table, [job.selected.selection for job in missing]) if missing else {}
    done = []
    for job in jobs:
        if folder_of(session, job).is_dir():
            session.cached("pretrain", job.item)
        elif job not in missing or not _try(session, catalogue, table, job, shards):
            continue
        _show(session, job)
        done.append(job)
    return done


def folder_of(session: Session, job: Job) -> Path:
    """Where the cache holds a job's backbone."""
    return session.cache.path("pretrain", job.address)


def show_folder(session: Session, job: Job) -> Path:
    """Where the run folder shows a job's backbone."""
    return session.folder.pretrain(job.selected.arm.id, job.plan.id, job.seed)


def _try(session: Session, catalogue: Catalogue, table: Table, job: Job, shards: Shards) -> bool:
    try:
        with session.work("pretrain", job.item):
            _train(session, table, job, shards)
    except StorageError:
        raise
    except Exception as error:  # a plugin may raise anything; the other items go on
        session.fail("pretrain", job.item, error)
        return False
    return True


def _train(session: Session, table: Table, job: Job, shards: Shards) -> None:
    workspace = session.cache.workspace("pretrain", job.address)
    rows = rows_of(table, job.selected.selection, shards, session.pipeline.rendering.size)
    method = job.plan.method.build()
    with session.console.progress(f"pretrain {job.item}", None) as bar:

        def metric(name: str, value: float, step: int) -> None:
            facts = {"stage": "pretrain", "item": job.item, "name": name, "value": value, "step": step}
            session.registry.notify("ctkit_metric_logged", run=session.info, **facts)

        trained = method.pretrain(
            Pretraining(
                rows=rows,
                seed=job.seed,
                device=session.device,
                workers=session.workers.backend.workers,
                folder=workspace,
                metadata=_metadata(session, job, len(rows)),
                progress=bar.update,
                metric=metric,
            )
        )
    _publish(session, job, trained, {"slices": len(rows), "mean": rows.mean, "std": rows.std})
    shutil.rmtree(workspace, ignore_errors=True)


def _metadata(session: Session, job: Job, slices: int) -> dict[str, str]:
    return {
        "method": job.plan.method.entry.name,
        "arm": job.selected.arm.id,
        "slices": str(slices),
        "seed": str(job.seed),
        "address": job.address,
        "fingerprint": session.provenance.fingerprint or "",
        "rendering": json.dumps(session.pipeline.rendering.model_dump(mode="json")),
    }


def _publish(session: Session, job: Job, trained: Pretrained, facts: dict[str, Any]) -> None:
    known = {key: value for key, value in asdict(trained).items() if key not in {"backbone", "history"}}
    rate = trained.steps * trained.batch / trained.seconds if trained.seconds > 0 else 0.0
    facts |= known | {
        "method": job.plan.method.entry.name,
        "parameters": job.plan.method.params.model_dump(mode="json"),
        "slices_per_second": round(rate, 1),
        "device": session.device,
    }
    with session.cache.entry("pretrain", job.address) as folder:
        shutil.copyfile(trained.backbone, folder / BACKBONE)
        write_csv(folder / HISTORY, ("step", "name", "value"), trained.history)
        write_json(folder / FACTS, facts)


def _show(session: Session, job: Job) -> None:
    """Put the results into the run folder, and say what the user must know."""
    source, target = folder_of(session, job), show_folder(session, job)
    for name in FILES:
        place(source / name, target / name)
    for note in json.loads((source / FACTS).read_text(encoding="utf-8"))["notes"]:
        session.note(f"{job.item}: {note}")
