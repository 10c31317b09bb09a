"""How many slices a second pre-training takes, against what the device could and against the plain way, in one run.

    python benchmarks/pretraining.py [simclr] [moco] [swav] [byol] [--steps 200]
    python benchmarks/pretraining.py simclr --device cpu --size 64 --batch 32 --backbone resnet18 --steps 10

Settings are the paper's where no option says otherwise. Each method trains in four ways, each in its own process:

ctkit       the engine as it is: slices from a slice store, read, copied and augmented while the network learns
on device   the same steps, but for a batch of slices that lies on the device already: the ceiling of what reading costs
network     the same steps, but for views that lie there already: nothing is augmented either
plain       lightly's transforms on PIL images from PNG files, on a GPU in a DataLoader with a worker for each core, and
            the same network and optimiser in a loop

Beside them it says how many slices a second one core gets ready for the device: reads, for ctkit, and reads and
augments in the plain way. Times the number of cores, that is the most that a device of any speed is given.

The slices are those of the phantom, few enough to stay in the page cache, which favours the plain way; on a GPU the
arm repeats them until it fills MoCo's queue. On a GPU seconds are those on the wall and memory is the device's; on the
CPU they are CPU seconds of one thread, so that a busy machine does not distort the ratios, and memory is that of the
process with all its libraries.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from ctkit import plugins
from ctkit.compute.pool import usable_cores
from ctkit.contracts import Pretraining, Rows
from ctkit.slices.rendering import training as rendered
from ctkit_datasets.phantom import Phantom, PhantomParams
from ctkit_models import engine
from ctkit_models.contrastive import Contrastive
from ctkit_models.optimisers import build_optimiser
from ctkit_models.plan import plan_run
from ctkit_models.slices import Batches
from ctkit_models.views import Draws, Normalise
from ctkit_torch.trunks import build_trunk

METHODS = ("simclr", "moco", "swav", "byol")
GOALS = {"on device": 0.9, "plain": 5.0}  #: of their rates, on an H200 with 16 cores
WARM = 3  #: first steps that do not count
VOLUMES, SLICES = 4, 32  #: in the slice store, and slices of each
MEAN, STD = 0.2, 0.2
FED = 128  #: slices whose making ready is timed
MATRIX = 8192  #: side of the matrices whose product measures the device

Result = TypeVar("Result")


@dataclass(frozen=True)
class Setting:
    """What every training of this run shares."""

    folder: Path  #: holds the slice store and the PNG files
    device: str
    steps: int
    slice: int  #: side of a stored slice, pixels
    options: dict[str, Any]  #: parameters of the method that are not the paper's


@dataclass(frozen=True)
class Measured:
    """What a training did."""

    rate: float  #: slices a second
    memory: float  #: peak, GB
    waiting: float = 0.0  #: share of the time in which the device waited for slices
    flops: float = 0.0  #: of the network, a second


def main() -> None:
    """Train each method in each way, and print rates and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("methods", nargs="*", choices=[*METHODS, []], help="all by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--slice", type=int, default=256, help="side of a stored slice, pixels")
    parser.add_argument("--size", type=int, help="side of a view, pixels")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--backbone")
    words = parser.parse_args()
    options = {name: getattr(words, name) for name in ("size", "batch", "backbone") if getattr(words, name)}
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(Path(name), words.device, words.steps, words.slice, options)
        write_slices(setting)
        peak = matrix_rate(words.device) if words.device == "cuda" else 0.0
        for method in words.methods or METHODS:
            compare(method, setting, peak)


def compare(method: str, setting: Setting, peak: float) -> None:
    """Print what one method does in each way."""
    params = built(method, setting).params
    print(f"{method}: {params.backbone}, batch {params.batch}, views of {params.size} pixels, {setting.device}")
    print("  a core gets ready {:,.0f} slices/s for ctkit, {:,.0f} the plain way".format(*alone(fed, method, setting)))
    found = {}
    for way in WAYS:
        found[way] = alone(WAYS[way], method, setting)
        print(f"  {way:<9} {found[way].rate:10,.1f} slices/s  {found[way].memory:6.2f} GB at most", flush=True)
    ours = found["ctkit"]
    for way in list(WAYS)[1:]:
        report(f"times the rate of {way}", ours.rate / found[way].rate, GOALS.get(way) if peak else None)
    print(f"  {ours.waiting:10.1%} of the time the device waited for slices")
    if peak:
        print(
            f"  {ours.flops / 1e12:.1f} TFLOP/s of the network, {ours.flops / peak:.0%} of {peak / 1e12:.0f} measured"
        )


def alone(measure: Callable[[str, Setting], Result], method: str, setting: Setting) -> Result:
    """What ``measure`` finds in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, method, setting).result()


def report(what: str, ratio: float, goal: float | None = None) -> None:
    """Print a ratio, beside its goal where there is one."""
    verdict = f"  (goal {goal:g}: {'reached' if ratio >= goal else 'MISSED'})" if goal else ""
    print(f"  {ratio:10.2f} {what}{verdict}")


# --- ctkit's ways -------------------------------------------------------------------------------------------------


def as_it_is(name: str, setting: Setting) -> Measured:
    """Train by ctkit's engine."""
    method, clock = built(name, setting), Clock(setting.device)
    rows = arm(setting)
    job = Pretraining(
        rows=rows,
        seed=0,
        device=setting.device,
        workers=usable_cores(),
        folder=Path(tempfile.mkdtemp(dir=setting.folder)),
        metadata={},
        progress=clock.tick,
        metric=lambda name, value, step: None,
    )
    done = method.pretrain(job)
    rate = clock.steps_per_second
    memory = done.peak_bytes / 1e9 if done.peak_bytes else clock.memory  # the engine resets a GPU's counter
    flops = flops_of_step(method, setting, done.batch) * rate if setting.device == "cuda" else 0.0
    return Measured(done.batch * rate, memory, done.waiting or 0.0, flops)


def on_device(name: str, setting: Setting) -> Measured:
    """Train on one batch of slices that stays on the device."""

    def ready(batches: Dataset[Tensor], **_: Any) -> Any:
        return DataLoader(Held(batches[0].to(setting.device)), batch_size=None, sampler=range(setting.steps))

    engine.DataLoader = ready  # type: ignore[assignment,misc]  # in a process of its own
    return as_it_is(name, setting)


def network_alone(name: str, setting: Setting) -> Measured:
    """Train on views of one batch that stay on the device."""
    augment = engine.Training._augmented
    views: list[Tensor] = []

    def ready(training: engine.Training, slices: Tensor) -> list[Tensor]:
        if not views:
            views.extend(view.clone() for view in augment(training, slices))
        return views

    engine.Training._augmented = ready  # type: ignore[method-assign]  # in a process of its own
    return on_device(name, setting)


@dataclass(frozen=True)
class Held(Dataset[Tensor]):
    """The same batch for every step."""

    batch: Tensor

    def __getitem__(self, step: int) -> Tensor:
        return self.batch


class Clock:
    """Watches a training's steps, and the memory they take."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"
        if not self._on_gpu:
            torch.set_num_threads(1)
        self._start = self._end = 0.0
        self._steps = 0

    def tick(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` steps are done."""
        if done in (WARM, total):
            now = self._now()
            self._start, self._end = (now, now) if done == WARM else (self._start, now)
            self._steps = total - WARM

    def _now(self) -> float:
        if self._on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() if self._on_gpu else time.process_time()

    @property
    def steps_per_second(self) -> float:
        """Of the steps that count."""
        return self._steps / (self._end - self._start)

    @property
    def memory(self) -> float:
        """GB at most, of the device or of this process."""
        if self._on_gpu:
            return torch.cuda.max_memory_allocated() / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


# --- the plain way ------------------------------------------------------------------------------------------------


class Pictures(Dataset[list[Tensor]]):
    """Views of PNG files, as often as asked for."""

    def __init__(self, folder: Path, transform: Callable[[Image.Image], list[Tensor]], length: int) -> None:
        self.paths, self.transform, self.length = sorted(folder.glob("*.png")), transform, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> list[Tensor]:
        with Image.open(self.paths[number % len(self.paths)]) as image:
            return self.transform(image.convert("RGB"))


def plain(name: str, setting: Setting) -> Measured:
    """Train as lightly's examples do."""
    method, clock = built(name, setting, channels=3), Clock(setting.device)
    plan = plan_run(method.params, len(arm(setting)))
    pictures = Pictures(setting.folder / "png", lightly_transform(name, method), plan.batch * setting.steps)
    on_gpu = torch.backends.cudnn.benchmark = setting.device == "cuda"
    workers = usable_cores() if on_gpu else 0
    loader = DataLoader(pictures, plan.batch, shuffle=True, num_workers=workers, pin_memory=on_gpu)
    network = method.network(build_trunk(method.params.backbone), plan).to(setting.device).train()
    optimiser = build_optimiser(network, method.params)
    for step, views in enumerate(loader):
        loss = loss_of(network, [view.to(setting.device, non_blocking=True) for view in views])
        optimiser.zero_grad()
        loss.backward()
        network.after_backward(step)
        optimiser.step()
        network.after_step(step)
        clock.tick(step + 1, setting.steps)
    return Measured(plan.batch * clock.steps_per_second, clock.memory)


def loss_of(network: torch.nn.Module, views: list[Tensor]) -> Tensor:
    """The loss, in the arithmetic that ctkit takes on this device."""
    on_gpu = views[0].is_cuda
    with torch.autocast("cuda" if on_gpu else "cpu", torch.bfloat16, enabled=on_gpu):
        loss: Tensor = network(views)
    return loss


def lightly_transform(name: str, method: Contrastive[Any]) -> Any:
    """Views of lightly for a method, as large and as many as ours."""
    from lightly import transforms

    size = method.params.size
    match name:
        case "simclr":
            return transforms.SimCLRTransform(input_size=size)
        case "moco":
            return transforms.MoCoV2Transform(input_size=size)
        case "byol":
            first = transforms.BYOLView1Transform(input_size=size)
            return transforms.BYOLTransform(first, transforms.BYOLView2Transform(input_size=size))
        case _:
            small = method.params.local_size or round(size * 3 / 7)
            return transforms.SwaVTransform((size, small), (2, method.params.local_views))


WAYS = {"ctkit": as_it_is, "on device": on_device, "network": network_alone, "plain": plain}


# --- feeding -------------------------------------------------------------------------------------------------------


def fed(name: str, setting: Setting) -> tuple[float, float]:
    """Slices a second that one core gets ready for ctkit, and the plain way."""
    torch.set_num_threads(1)
    method, rows = built(name, setting), arm(setting)
    plan = plan_run(method.params, len(rows))
    batches = Batches(rows, 0, plan.batch)
    pictures = Pictures(setting.folder / "png", lightly_transform(name, method), FED)
    return (
        plan.batch * per_second(lambda step: batches[step], plan.steps_per_epoch),
        per_second(lambda number: pictures[number], FED),
    )


def per_second(prepare: Callable[[int], object], times: int) -> float:
    """How often a CPU second of this process holds ``prepare``, which is called with 0, 1, 2, ..."""
    prepare(0)
    start = time.process_time()
    for number in range(times):
        prepare(number)
    return times / (time.process_time() - start)


# --- what they share ----------------------------------------------------------------------------------------------


def built(name: str, setting: Setting, **more: Any) -> Contrastive[Any]:
    """The method, for as many steps as the benchmark takes."""
    kind: Any = plugins.load().find("method", name).load()
    method: Contrastive[Any] = kind(kind.params_type(steps=setting.steps, **setting.options, **more))
    return method


def write_slices(setting: Setting) -> None:
    """Write some volumes of the phantom as a slice store and as PNG files."""
    (setting.folder / "png").mkdir()
    phantom = Phantom(PhantomParams(patients=VOLUMES, slices=SLICES, matrix=setting.slice))
    for number in range(VOLUMES):
        pixels = phantom.read(phantom.volume(number))
        grey = rendered(pixels.values, pixels.unit, "hu-window", setting.slice)
        np.save(setting.folder / f"{number}.npy", grey)
        for row, image in enumerate(grey):
            Image.fromarray(image).save(setting.folder / "png" / f"{number}-{row:02}.png")


def arm(setting: Setting) -> Rows:
    """An arm that repeats the stored slices, long enough for MoCo's queue in the paper's settings."""
    shards = tuple(sorted(setting.folder.glob("*.npy")))
    length = 65536 if setting.device == "cuda" else 512
    number = np.arange(length) % (VOLUMES * SLICES)
    return Rows(shards, number // SLICES, number % SLICES, number // SLICES, setting.slice, MEAN, STD)


def flops_of_step(method: Contrastive[Any], setting: Setting, batch: int) -> float:
    """Floating-point operations of the network in one step, forward and backward."""
    plan = plan_run(method.params, len(arm(setting)))
    network = method.network(build_trunk(method.params.backbone, method.params.channels), plan).to(setting.device)
    made = method.views(Normalise(MEAN, STD))
    slices = torch.zeros(batch, setting.slice, setting.slice, dtype=torch.uint8, device=setting.device)
    views = [
        view(slices, Draws(0, 0, batch, device=setting.device)).expand(-1, method.params.channels, -1, -1)
        for view in made
    ]
    with FlopCounterMode(display=False) as counter:
        loss_of(network, views).backward()
    return float(counter.get_total_flops())


def matrix_rate(device: str) -> float:
    """Floating-point operations a second of a product of large matrices in bf16."""
    matrix = torch.rand(MATRIX, MATRIX, device=device, dtype=torch.bfloat16)
    for _ in range(WARM):
        matrix @ matrix
    torch.cuda.synchronize()
    start, times = time.perf_counter(), 50
    for _ in range(times):
        matrix @ matrix
    torch.cuda.synchronize()
    return times * 2 * MATRIX**3 / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
