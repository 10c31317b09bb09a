"""``--jobs``: several trainings and evaluations at once, with the results that one after the other have."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ctkit import plugins
from ctkit.cli import main
from ctkit.compute import devices
from ctkit.files import read_csv
from ctkit.slices.packs import Packs
from ctkit.storage import Cache
from ctkit_models import cluster

PIPELINE = """\
[run]
name = "several"
[compute]
device = "cpu"
workers = 2
[dataset]
use = "phantom"
patients = 1
slices = 16
matrix = 32
size = 32
[[reduce]]
use = "all"
[[reduce]]
id = "half"
use = "every-n"
n = 2
[[reduce]]
id = "again"  # the same slices as those of half, so the same backbone
use = "every-n"
n = 2
[[baseline]]
[[pretrain]]
use = "simclr"
backbone = "resnet18"
size = 32
batch = 4
steps = 3
[[task]]
use = "phantom-lesions"
train = 8
val = 4
test = 8
size = 32
protocol = { use = "knn", size = 32 }
"""

#: A method that trains nothing, and whose process dies where the arm is ``half``.
FRAGILE = """\
import os, signal
from ctkit.contracts import NoParams, Method, Pretrained
from ctkit.hookspecs import Spec, hookimpl
from ctkit.testing.samples import backbone

@hookimpl
def ctkit_register_methods():
    return [Spec("fragile", "A method that dies.", "fragile:Fragile")]

class Fragile(Method[NoParams]):
    def pretrain(self, job):
        if job.metadata["arm"] == "half":
            os.kill(os.getpid(), int(os.environ["SENT"]))
        return Pretrained(backbone(job.folder / "backbone.safetensors"), 0, 0.0, 0, 0.0)
"""

Run = Callable[..., tuple[int, dict[str, Any]]]
FOLDER = Path("runs/several")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the pipeline with more words; return the exit code and ``run.json``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more threads add up in another order
    (tmp_path / "p.toml").write_text(PIPELINE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def _run(*words: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as left:
            main(["run", "p.toml", *words])
        return int(left.value.code or 0), json.loads((FOLDER / "run.json").read_text())

    yield _run
    torch.set_num_threads(threads)


def install(site: Path, name: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a plugin module as a distribution of its own."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ctkit]\n{name} = {name}\n")
    monkeypatch.syspath_prepend(site)
    plugins.load.cache_clear()


def backbones() -> dict[str, bytes]:
    return {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in FOLDER.rglob("*.safetensors")}


def test_trainings_at_once_give_the_backbones_and_scores_of_one_after_the_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, facts = run("--jobs", "2", "--json")
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (code, facts["state"], facts["jobs"], facts["at"]) == (0, "done", 2, None)
    slower = "up to 2 trainings shared the cores, so it took longer than alone"
    assert {"item": "all/simclr/seed-42", "text": slower} in facts["notes"]
    ended = [one for one in said if one["event"] == "finished" and one["task"] == "pretrain all/simclr/seed-42"]
    assert [one["done"] for one in ended] == [3]
    together, scores = backbones(), read_csv(FOLDER / "results.csv")
    made = [stage["item"] for stage in facts["stages"] if stage["stage"] == "pretrain" and not stage["cached"]]
    assert len(made) == len(set(made)) == 3  # of four backbones two are the same
    assert len(together) == 4

    monkeypatch.setenv("CTKIT_CACHE", "another-cache")
    code, facts = run()
    assert (code, facts["jobs"]) == (0, 1)
    assert backbones() == together
    assert read_csv(FOLDER / "results.csv") == scores


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system has no SIGSTOP")
@pytest.mark.parametrize(
    ("sent", "how"),
    [
        ("SIGKILL", "died (SIGKILL, as when memory runs out)"),
        ("SIGSTOP", "was stopped, or waited for a disk, for 1 s"),
    ],
)
def test_when_the_process_of_one_dies_or_is_stopped_the_others_go_on_and_a_twin_is_tried_for_itself(
    run: Run, sent: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SENT", str(int(signal.Signals[sent])))
    install(tmp_path / "site", "fragile", FRAGILE, monkeypatch)
    arms = PIPELINE.split("[[baseline]]")[0]
    (tmp_path / "p.toml").write_text(arms + '[[pretrain]]\nuse = "fragile"\n')
    run("--until", "materialise")  # without the limit, which is for what trains
    code, facts = run("-j", "2", "--set", "compute.time_limit=1")
    plugins.load.cache_clear()
    reason = f"the process that worked on it {how}"
    assert (code, facts["state"]) == (1, "failed in part")
    assert facts["failures"] == [{"stage": "pretrain", "item": "half/fragile/seed-42", "reason": reason}]
    assert reason in capsys.readouterr().err
    assert sorted(backbones()) == [f"arms/{arm}/fragile/seed-42/backbone.safetensors" for arm in ("again", "all")]


#: A reducer for the accelerator and a method; both note the processes they work in.
ACCELERATED = """\
import os, signal
from pathlib import Path
from typing import Literal
from ctkit.contracts import Decision, Method, NoParams, Params, Pretrained, Reducer
from ctkit.hookspecs import Spec, hookimpl
from ctkit.testing.samples import backbone

@hookimpl
def ctkit_register_reducers():
    return [Spec("brightest", "Keep what is brighter than the mean.", "accelerated:Brightest")]

@hookimpl
def ctkit_register_methods():
    return [Spec("quick", "A method that trains nothing.", "accelerated:Quick")]

def note(work):
    Path(f"{work}-{os.getpid()}").touch()

def is_first():
    # one volume goes wrong, whichever process is faster
    try:
        Path("once").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

class Mood(Params):
    mood: Literal["fine", "dies", "raises", "interrupts"] = "fine"

class Brightest(Reducer[Mood]):
    evidence = "slice"
    device = "accelerator"

    def describe(self, slices):
        assert slices.device == "cpu:0"
        note("describing")
        if self.params.mood != "fine" and is_first():
            if self.params.mood == "raises":
                raise ValueError("not today")
            dies = self.params.mood == "dies"
            os.kill(os.getpid() if dies else int(os.environ["RUN"]), signal.SIGKILL if dies else signal.SIGINT)
        return slices.grey.mean(axis=(1, 2))

    def select(self, group, at, rng):
        return Decision(group.evidence >= group.evidence.mean())

class Quick(Method[NoParams]):
    def pretrain(self, job):
        note("training")
        return Pretrained(backbone(job.folder / "backbone.safetensors"), 0, 0.0, 0, 0.0)
"""
BRIGHTEST = PIPELINE.split("[[reduce]]")[0].replace("patients = 1", "patients = 3") + '[[reduce]]\nuse = "brightest"\n'


@pytest.fixture
def accelerated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An accelerator to describe on: "cpu:0" names the CPU to torch, and is not what ctkit calls "cpu"."""
    install(tmp_path / "site", "accelerated", ACCELERATED, monkeypatch)
    monkeypatch.setattr(devices, "resolve", lambda *_: "cpu:0")
    monkeypatch.setenv("RUN", str(os.getpid()))
    yield
    plugins.load.cache_clear()


def evidence() -> dict[str, bytes]:
    packs = Packs(Cache(Path(os.environ.get("CTKIT_CACHE", "runs/.cache"))), "evidence")
    return {name: packs.read(name) or b"" for name in packs._places}


def processes(work: str) -> set[str]:
    return {path.name.removeprefix(f"{work}-") for path in Path().glob(f"{work}-*")}


@pytest.mark.usefixtures("accelerated")
def test_what_describes_on_the_accelerator_ends_before_the_trainings_and_leaves_what_one_process_would(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.toml").write_text(BRIGHTEST + '[[pretrain]]\nuse = "quick"\n')
    code, facts = run("--jobs", "2")
    assert (code, facts["state"], facts["jobs"]) == (0, "done", 2)
    describing, training = processes("describing"), processes("training")
    assert describing
    assert training
    assert not describing & (training | {str(os.getpid())})
    together = evidence()
    assert len(together) == 3

    monkeypatch.setenv("CTKIT_CACHE", "another-cache")
    assert run("--until", "select")[0] == 0
    assert processes("describing") == describing | {str(os.getpid())}
    assert evidence() == together


@pytest.mark.usefixtures("accelerated")
@pytest.mark.parametrize(
    ("mood", "words", "code", "reason"),
    [
        ("dies", ("-j2",), 1, "reducer 'brightest': the process that worked on it died .*, on a volume of 16 slices"),
        ("raises", ("-j2",), 1, "reducer 'brightest' failed to describe a volume: ValueError: not today"),
        ("raises", (), 1, "reducer 'brightest' failed to describe a volume: ValueError: not today"),
        ("interrupts", ("-j2",), 130, None),
        ("interrupts", (), 130, None),
    ],
    ids=lambda value: "-".join(value) or "here" if isinstance(value, tuple) else None,
)
def test_when_describing_on_the_accelerator_goes_wrong_what_could_be_described_stays(
    run: Run, tmp_path: Path, mood: str, words: tuple[str, ...], code: int, reason: str | None
) -> None:
    (tmp_path / "p.toml").write_text(f'{BRIGHTEST}mood = "{mood}"\n')
    ended, facts = run("--until", "select", *words)
    assert ended == code
    assert (facts["error"] is None) if reason is None else re.search(reason, facts["error"])
    kept = evidence()
    assert len(kept) == 2 if reason else 1 <= len(kept) <= 3
    assert run("--until", "select", *words)[0] == 0
    assert len(evidence()) == 3
    assert kept.items() <= evidence().items()


def test_a_word_that_is_no_number_of_jobs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("0", "many", "1.5", "²"):
        with pytest.raises(SystemExit, match="2"):
            main(["run", "p.toml", "--jobs", word])
        assert f"must be 1, 2, ... or auto but is '{word}'" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--jobs=2", "-j2", "-qj2"])
def test_processes_that_share_each_training_do_not_train_several(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cluster.main(["run", "p.toml", "--json", word])
    assert "all processes share each training" in capsys.readouterr().err
