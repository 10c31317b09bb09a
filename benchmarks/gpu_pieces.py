"""The pieces of ``gpu.py``, one in a process: python benchmarks/gpu_pieces.py PIECE --seconds 60 --file PIECE.json

Each piece yields its figures as it finds them, and they are written into the file at once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import Figure, save
from processes import end_with_parent
from scans import lidc_scan

if TYPE_CHECKING:
    import numpy as np
    from evaluation import Scale
    from numpy.typing import NDArray
    from torch import Tensor

    from ctkit_models.network import Network

Figures = Iterator[Figure]

HERE = Path(__file__).resolve().parent
WHEELS = HERE / "gpu_wheels.txt"
NO_GPU = "not applicable: there is no GPU"


@dataclass(frozen=True)
class Scope:
    """What a piece has to work with."""

    device: str
    tiny: bool
    seconds: float  #: after which it is stopped
    folder: Path  #: for its files
    out: Path  #: for files that are kept
    note: Callable[..., None]  #: called with settings by name, which the piece's file is to hold

    @property
    def devices(self) -> tuple[str, ...]:
        """Where to measure what is compared: on the CPU, and on a GPU if that is what is asked for."""
        return ("cpu",) if self.device == "cpu" else ("cpu", "cuda")


def main() -> None:
    """Run the piece that the command line names, or look at the machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("piece", choices=["machine", *RUN])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--wheels", type=Path)
    words = parser.parse_args()
    end_with_parent()
    if words.piece == "machine":
        save(words.file, machine(words.wheels))
        return
    document = json.loads(words.file.read_text(encoding="utf-8"))

    def note(**settings: object) -> None:
        document["settings"] |= settings
        save(words.file, document)

    with tempfile.TemporaryDirectory() as folder:
        scope = Scope(words.device, words.tiny, words.seconds, Path(folder), words.file.parent, note)
        for figure in RUN[words.piece](scope):
            print(figure, flush=True)
            document["figures"].append(asdict(figure))
            save(words.file, document)


# --- the machine --------------------------------------------------------------------------------------------------


def machine(wheels: Path | None) -> dict[str, Any]:
    """What this machine has, by name, and under "missing" what the pieces lack."""
    cpu, cores = cpu_name(), len(os.sched_getaffinity(0))
    found: dict[str, Any] = {
        "cpu": f"{cores} cores of {cpu}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "python": platform.python_version(),
        "driver": driver(),
        "commit": commit(wheels),
    }
    missing = [] if found["driver"] else ["a driver of NVIDIA: nvidia-smi does not answer"]
    versions, lacking = packages()
    missing += lacking
    found |= {"packages": versions, **of_torch(missing), **of_ctkit(missing)}
    if not (os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang")))):
        missing.append("a C compiler, which torch.compile needs: none of cc, gcc and clang is there")
    if not found["commit"]:
        missing.append("the commit: this is no checkout of git, and the wheels do not name it")
    found["data"] = "a real scan for reducers, else the phantom" if lidc_scan() else "the phantom"
    if not lidc_scan():
        missing.append("the scan LIDC-IDRI-0306 in $CTKIT_REAL_DATA: the phantom takes its place")
    return {"machine": found.get("gpu") or f"{cpu}, {cores} cores", **found, "missing": missing}


def cpu_name() -> str:
    """The processor's name."""
    match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return " ".join(match[1].split()) if match else platform.machine()


def driver() -> str | None:
    """The version of the GPU's driver."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return answer[0] if answer else None


def commit(wheels: Path | None) -> str | None:
    """The commit of this checkout, "dirty" where files differ from it; else the one that the wheels are built of."""
    try:
        git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    path = (wheels or HERE) / "commit.txt"
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def packages() -> tuple[dict[str, str], list[str]]:
    """Versions of what the pieces need, by name; and what is missing, or is not what ``gpu_wheels.txt`` says."""
    there, pins = requirements()
    versions, missing = {}, []
    for name in (*there, *pins):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(f"{name} {pins.get(name, '')}".strip())
            continue
        if pins.get(name, versions[name]) != versions[name]:
            missing.append(f"{name} {pins[name]}: {versions[name]} is there instead")
    return versions, missing


def requirements() -> tuple[list[str], dict[str, str]]:
    """Names that PyTorch's stack brings, and versions by name of what has to be brought along."""
    lines = WHEELS.read_text(encoding="utf-8").splitlines()
    there = [name for line in lines if line.startswith("# there:") for name in line.partition(":")[2].split()]
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return there, pins


def of_torch(missing: list[str]) -> dict[str, Any]:
    """What torch says of itself and of the GPU."""
    try:
        import torch
    except Exception as error:
        missing.append(f"a torch that can be imported: {type(error).__name__}: {error}")
        return {}
    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if not torch.cuda.is_available():
        missing.append("a GPU that torch can use")
        return found
    gpu = torch.cuda.get_device_properties(0)
    several = f"{torch.cuda.device_count()} x " if torch.cuda.device_count() > 1 else ""
    name = f"{several}{gpu.name}, {gpu.total_memory / 1e9:.0f} GB, compute capability {gpu.major}.{gpu.minor}"
    return {**found, "cudnn": torch.backends.cudnn.version(), "gpu": name}


def of_ctkit(missing: list[str]) -> dict[str, Any]:
    """The version of ctkit, where its plugins are found."""
    try:
        import ctkit
        from ctkit import plugins

        plugins.load().find("method", "simclr").load()
    except Exception as error:
        missing.append(f"ctkit with its plugins, installed: {type(error).__name__}: {error}")
        return {}
    return {"ctkit": ctkit.__version__}


# --- tests --------------------------------------------------------------------------------------------------------


def tests(scope: Scope) -> Figures:
    """Every test that needs a GPU, from the files that have one; a failure is a row in the table."""
    repository = HERE.parent
    files = [path for path in sorted(repository.glob("tests/**/test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    if not files:
        yield Figure("tests", None, "", "the source tree has no tests")
        return
    options = ["-m", "gpu", "-v", "-rfE", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-W", "default"]
    options.append("--continue-on-collection-errors")
    command = [sys.executable, "-m", "pytest", *options, f"--basetemp={scope.folder / 'pytest'}"]
    scope.note(files=len(files))
    counts = dict.fromkeys(("PASSED", "FAILED", "ERROR", "SKIPPED"), 0)
    environment, reason = os.environ | {"COLUMNS": "400", "PY_COLORS": "0"}, ""
    with subprocess.Popen(
        [*command, *map(str, files)],
        cwd=repository,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.match(r"(?:tests/)?(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)(.*)$", line):
                counts[match[2]] += 1
                note = re.sub(r"\s*\[ *\d+%\]\s*$", "", match[3]).strip()
                yield Figure(match[1], None, "", f"{match[2].lower()} {note}".strip())
            elif match := re.match(r"E {3}(.*)", line):
                reason = match[1]  # of a file that cannot be imported, which the summary does not repeat
            elif match := re.match(r"(FAILED|ERROR) (?:tests/)?(\S+)(?: - (.*))?$", line):
                yield Figure(match[2], None, "", f"{match[1].lower()}: {(match[3] or reason).strip()[:300]}")
    for name, count in counts.items():
        yield Figure(f"tests, {name.lower()}", count, "")
    if not sum(counts.values()):
        raise SystemExit(f"no test was run: pytest ended with exit code {process.returncode}")


# --- pre-training -------------------------------------------------------------------------------------------------


def swav(scope: Scope) -> Figures:
    """SwAV against its ceiling and lightly's plain way."""
    return pretraining_of("swav", scope, plain=True)


def simclr(scope: Scope) -> Figures:
    """SimCLR against its ceiling and lightly's plain way."""
    return pretraining_of("simclr", scope, plain=True)


def moco(scope: Scope) -> Figures:
    """MoCo v2 against its ceiling."""
    return pretraining_of("moco", scope, plain=False)


def byol(scope: Scope) -> Figures:
    """BYOL against its ceiling."""
    return pretraining_of("byol", scope, plain=False)


def pretraining_of(method: str, scope: Scope, *, plain: bool) -> Figures:
    """What ``pretraining.py`` finds of a method, each way for about an eighth of the time."""
    import pretraining

    setting = setting_of(scope, scope.seconds / 8)
    scope.note(network=pretraining.described(method, setting))
    return pretraining.compare(method, setting, ("network", "on device", "ctkit", *(["plain"] if plain else [])))


def setting_of(scope: Scope, seconds: float) -> Any:
    """The paper's setting, or a small one, with its slice store written."""
    from pretraining import FEWEST, MOST, Setting, write_slices
    from processes import alone

    if scope.tiny:
        options = {"backbone": "resnet18", "size": 32, "batch": 8}
        setting = Setting(scope.folder, scope.device, FEWEST, 64, options, min(seconds, 1))
    else:
        setting = Setting(scope.folder, scope.device, MOST, 512, {}, seconds)
    alone(write_slices, setting)
    return setting


# --- acceleration -------------------------------------------------------------------------------------------------


def acceleration(scope: Scope) -> Figures:
    """SwAV's network on two large views that lie on the device, in each of ``VARIANTS``.

    It passes its trunk once a step, and its loss never has the CPU wait for the device, which a CUDA graph cannot hold:
    SimCLR's loss chooses by a mask, and MoCo's queue reads its own place.
    """
    import pretraining
    from processes import tried

    setting = setting_of(scope, scope.seconds / 15)
    setting = replace(setting, options={**setting.options, "local_views": 0})
    scope.note(network=f"swav without small views, {pretraining.described('swav', setting)}")
    plain = None
    for name, (options, prepare, needs_gpu) in VARIANTS.items():
        if needs_gpu and scope.device == "cpu":
            yield Figure(name, None, "slices/s", "not applicable: CUDA graphs need a GPU")
            continue
        variant = replace(setting, options={**setting.options, **options})
        found = tried(pretraining.network_with, "swav", variant, prepare)
        if isinstance(found, str):
            yield Figure(name, None, "slices/s", found)
            continue
        plain = plain or found.rate
        yield Figure(name, found.rate, "slices/s", f"{found.rate / plain:.2f} of the first")
        yield Figure(f"{name}, before the steps that count", found.warming, "s")
        yield Figure(f"{name}, peak memory", found.memory, "GB")


def graphed(network: Network, views: list[Tensor]) -> Callable[[list[Tensor]], object]:
    """Forward and backward pass, captured once as a CUDA graph and replayed at each step."""
    import torch
    from pretraining import WARM, loss_of

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # as torch's manual on CUDA graphs has it: not captured, on another stream
        for _ in range(WARM):
            network.zero_grad()
            loss_of(network, views).backward()  # type: ignore[no-untyped-call]
    torch.cuda.current_stream().wait_stream(stream)
    network.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss_of(network, views).backward()  # type: ignore[no-untyped-call]
    return lambda views: graph.replay()


def compiled_and_graphed(network: Network, views: list[Tensor]) -> Callable[[list[Tensor]], object]:
    """The trunk compiled by torch with CUDA graphs of its own."""
    import torch
    from pretraining import loss_of

    from ctkit_torch.trunks import Trunk

    for module in network.modules():
        if isinstance(module, Trunk):
            module.compile(dynamic=False, mode="reduce-overhead")

    def gradients(views: list[Tensor]) -> None:
        torch.compiler.cudagraph_mark_step_begin()
        network.zero_grad()
        loss_of(network, views).backward()  # type: ignore[no-untyped-call]

    return gradients


#: Options of the method, what takes the place of a plain forward and backward pass, and whether that needs a GPU.
VARIANTS: dict[str, tuple[dict[str, bool], Any, bool]] = {
    "contiguous": ({"channels_last": False}, None, False),
    "channels last": ({"channels_last": True}, None, False),
    "channels last, CUDA graph": ({"channels_last": True}, graphed, True),
    "channels last, compiled": ({"channels_last": True, "compile": True}, None, False),
    "channels last, compiled, CUDA graphs": ({"channels_last": True}, compiled_and_graphed, True),
}


# --- reducers -----------------------------------------------------------------------------------------------------


def reducers(scope: Scope) -> Figures:
    """Reducers that look at slices on the device."""
    from processes import alone

    path = scope.folder / "volume.npy"
    count, source = alone(write_volume, path, scope.tiny)
    scope.note(volume=f"{count} slices of {source}", network=network_of(scope))
    few = min(count, 8 if scope.tiny else 24)
    for name, unit in (("embedding", "slices/s"), ("ssim", "pairs/s"), ("mutual-information", "pairs/s")):
        yield from compared(scope, name, unit, described_by, name, network_of(scope), path, few)


def network_of(scope: Scope) -> str:
    """The network that sees slices and images."""
    return "resnet18" if scope.tiny else "resnet50"


def compared(scope: Scope, name: str, unit: str, measure: Any, *arguments: Any) -> Figures:
    """Rates of ``measure(*arguments, device)`` on the CPU and on the GPU, and how far their results differ.

    ``measure`` returns a rate and a result, or None where results are not to be compared. The GPU may do more of the
    same: its result is of as much as the CPU's, or begins with it.
    """
    import numpy as np
    from processes import tried

    found = {device: tried(measure, *arguments, device) for device in scope.devices}
    for device, what in found.items():
        where = "one core of the CPU" if device == "cpu" else "the GPU"
        rate, note = (None, what) if isinstance(what, str) else (what[0], "")
        yield Figure(f"{name}, {where}", rate, unit, note)
    if scope.device == "cpu":
        yield Figure(f"{name}, GPU / core", None, "", NO_GPU)
    elif not any(isinstance(what, str) for what in found.values()):
        (slow, expected), (fast, result) = found["cpu"], found["cuda"]
        yield Figure(f"{name}, GPU / core", fast / slow, "")
        if expected is None:
            return
        apart = np.abs(result[: len(expected)] - expected).max() / np.abs(expected).max()
        yield Figure(f"{name}, largest difference", 100 * float(apart), "%", "of the largest value")


def described_by(name: str, network: str, path: Path, few: int, device: str) -> tuple[float, NDArray[np.float32]]:
    """Slices or pairs a second, of ``few`` slices on the CPU and all on a GPU; and the evidence of those few."""
    import numpy as np
    import torch

    from ctkit import plugins
    from ctkit_reducers.features import embed
    from ctkit_torch.backbones import random_backbone
    from reducers import seen, timed

    torch.set_num_threads(1)
    grey = np.load(path)
    if name == "embedding":
        backbone = random_backbone(network, seed=0)
        backbone.trunk.to(device)
        units: Callable[[int], float] = float

        def describe(some: NDArray[np.uint8]) -> NDArray[np.float32]:
            return embed(backbone, some, 224, device)
    else:
        reducer: Any = plugins.load().find("reducer", name).load()()
        units = pairs

        def describe(some: NDArray[np.uint8]) -> NDArray[np.float32]:
            evidence: NDArray[np.float32] = reducer.describe(seen(some, device))
            return evidence

    first = describe(grey[:few])  # warms up as well
    timed_slices = grey[:few] if device == "cpu" else grey
    _, seconds = timed(lambda: describe(timed_slices), device, 1 if device == "cpu" else 3)
    return units(len(timed_slices)) / seconds, first


def pairs(slices: int) -> float:
    """Pairs of so many slices."""
    return slices * (slices - 1) / 2


def write_volume(path: Path, tiny: bool) -> tuple[int, str]:
    """Write a volume (n, rows, columns) uint8 as evidence is rendered; its number of slices, and what it is of."""
    import numpy as np

    from ctkit.slices.rendering import evidence
    from ctkit_datasets.phantom import Phantom, PhantomParams
    from reducers import real_volume

    if lidc_scan() and not tiny:
        grey, source = real_volume(), "a scan of LIDC-IDRI"
    else:
        phantom = Phantom(PhantomParams(patients=1, slices=12 if tiny else 120, matrix=64 if tiny else 512))
        grey, source = evidence(phantom.read(phantom.volume(0)).values), "the phantom"
    np.save(path, grey)
    return len(grey), source


# --- evaluation ---------------------------------------------------------------------------------------------------


def evaluation(scope: Scope) -> Figures:
    """Features and an epoch of fine-tuning."""
    scope.note(network=network_of(scope), images="noise, in 11 classes")
    yield from compared(scope, "features", "images/s", features_of, scope.tiny, scope.folder)
    yield from compared(scope, "finetune, epoch and validation", "images/s", epoch_of, scope.tiny, scope.folder)


def scale_of(tiny: bool, device: str) -> Scale:
    """How much is done: the few images of the CPU are the first ones of the GPU."""
    from evaluation import Scale

    if tiny:
        return Scale("resnet18", 64, {"train": 32, "val": 16, "test": 16}, 1)
    images = {"train": 2048, "val": 256, "test": 64} if device == "cuda" else {"train": 16, "val": 8, "test": 8}
    return Scale("resnet50", 224, images, 1)


def features_of(tiny: bool, folder: Path, device: str) -> tuple[float, NDArray[np.float32]]:
    """Images a second; and the features of the training images."""
    import torch
    from evaluation import evaluation as evaluated
    from evaluation import timed

    from ctkit_tasks.features import extract
    from ctkit_tasks.parts import parts_of

    torch.set_num_threads(1)
    scale = scale_of(tiny, device)
    found: list[NDArray[np.float32]] = []
    for times in ("to warm up", "to be timed"):
        job = evaluated(made(folder / f"{device}-features-{times}"), scale, device)
        parts = parts_of(job)
        seconds = timed(lambda job=job, parts=parts: found.extend(extract(job, (parts.train,), scale.side)), device)
    return scale.images["train"] / seconds, found[-1]


def epoch_of(tiny: bool, folder: Path, device: str) -> tuple[float, None]:
    """Training images a second in an epoch that ends with a validation."""
    import torch
    from evaluation import evaluation as evaluated
    from evaluation import timed, tuning_of

    torch.set_num_threads(1)
    scale = scale_of(tiny, device)
    training = tuning_of(evaluated(made(folder / f"{device}-finetune"), scale, device), scale)
    training.epoch()  # to warm up
    seconds = timed(training.epoch, device)
    return scale.images["train"] / seconds, None


def made(folder: Path) -> Path:
    """A new folder."""
    folder.mkdir()
    return folder


# --- the study of redundancy --------------------------------------------------------------------------------------

#: A larger network, larger views and a longer training than in small, or one that only shows that the piece works.
_LARGE = {
    "backbone": "resnet18", "size": 64, "steps": 2000, "learning_rate": 1e-3, "hidden": 2048,
    "stored": 96, "matrix": 128,
}  # fmt: skip
_TINY = {
    "backbone": "resnet18",
    "size": 32,
    "steps": 2,
    "learning_rate": 1e-3,
    "hidden": 64,
    "stored": 48,
    "matrix": 48,
}


def study(scope: Scope) -> Figures:
    """The positive control of ``examples/proof``, then as much of its grid as the time allows.

    The tables of its runs are copied beside the figures, where ``examples/proof/page.py`` reads them.
    """
    sys.path.insert(0, str(HERE.parent / "examples" / "proof"))
    from redundancy import commands

    setting = _TINY if scope.tiny else _LARGE
    scope.note(**setting)
    runs, seen = scope.folder / "proof", set[tuple[str, ...]]()
    begin, longest = time.monotonic(), 0.0
    for command in commands(runs, range(1, 6), [], list(study_settings(scope, setting))):
        start = time.monotonic()
        if start + longest - begin > scope.seconds:
            return
        subprocess.run([sys.executable, "-m", "ctkit", *command], check=True, stdout=subprocess.DEVNULL)
        run = Path(command[command.index("--out") + 1])
        skipped = shutil.ignore_patterns("*.safetensors", "tensorboard", ".*")
        shutil.copytree(run, scope.out / "proof" / run.name, ignore=skipped, dirs_exist_ok=True)
        yield from study_scores(run, seen)
        longest = max(longest, time.monotonic() - start)


def study_settings(scope: Scope, setting: dict[str, Any]) -> Iterator[str]:
    """Values in ``redundancy.toml``, as ``--set`` takes them."""
    yield from (f"compute.device={scope.device}", f"dataset.size={setting['stored']}")
    yield f"dataset.matrix={setting['matrix']}"
    for name in ("uniform", "one-per-volume"):
        keys = ("backbone", "size", "steps", "learning_rate", "hidden")
        yield from (f"pretrain.{name}.{key}={setting[key]}" for key in keys)
    for task in ("phantom-regions", "phantom-lesions"):
        yield from (f"task.{task}.size={setting['stored']}", f"task.{task}.protocol.size={setting['size']}")
        if scope.tiny:
            yield from (f"task.{task}.{part}=4" for part in ("train", "val", "test"))


def study_scores(run: Path, seen: set[tuple[str, ...]]) -> Figures:
    """AUCs of a run folder that are not among those ``seen``, which they join."""
    from ctkit import open_run

    for row in open_run(run).score_rows:
        name = (run.name, row.place.task, row.arm, row.place.pretrain, row.seed)
        if row.metric == "auc" and not row.pooled and name not in seen:
            seen.add(name)
            yield Figure(", ".join(filter(None, (*name[:4], f"seed {row.seed}"))), row.value, "AUC")


RUN: dict[str, Callable[[Scope], Figures]] = {
    "tests": tests,
    "swav": swav,
    "simclr": simclr,
    "reducers": reducers,
    "evaluation": evaluation,
    "acceleration": acceleration,
    "moco": moco,
    "byol": byol,
    "study": study,
}

if __name__ == "__main__":
    main()
