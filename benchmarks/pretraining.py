"""How many slices per second pre-training takes, against what the device could and against the plain way, in one run.

    python benchmarks/pretraining.py [simclr] [moco] [swav] [byol] [--steps 200]
    python benchmarks/pretraining.py simclr --device cpu --size 64 --batch 32 --backbone resnet18 --steps 10

Settings are the paper's where no option says otherwise. Each method trains in four ways, each in its own process:

network     forward and backward pass, and the optimiser, on views that lie on the device already, in a plain loop
on device   ctkit's engine on a batch of slices that lies on the device already: the ceiling of what reading costs
ctkit       the engine as it is: slices from a slice store, read, copied and augmented while the network learns
plain       lightly's transforms on PIL images from PNG files, on a GPU in a DataLoader with a worker for each core, and
            the same network and optimiser in a loop

Beside them it says how many slices per second one core gets ready for the device: reads, for ctkit, and reads and
augments in the plain way. Times the number of cores, that is the most that a device of any speed is given.

The slices are those of the phantom, few enough to stay in the page cache, which favours the plain way; on a GPU the
arm repeats them until it fills MoCo's queue. A loss is logged at the first and the last step only: in a training of
weeks the 500 that are logged cost nothing. On a GPU seconds are those on the wall and memory is the device's; on the
CPU they are CPU seconds of one thread, so that a busy machine does not distort the ratios, and memory is that of the
process with all its libraries.
"""

from __future__ import annotations

import argparse
import math
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from figures import Figure
from PIL import Image
from processes import alone, tried
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from ctkit import plugins
from ctkit.compute.pool import usable_cores
from ctkit.contracts import Pretraining, Rows
from ctkit.slices.rendering import training as rendered
from ctkit_datasets.phantom import Phantom, PhantomParams
from ctkit_models import engine
from ctkit_models.acceleration import accelerate, channels_last
from ctkit_models.contrastive import Contrastive
from ctkit_models.metering import Meters
from ctkit_models.network import Network
from ctkit_models.optimisers import build_optimiser
from ctkit_models.plan import Plan, plan_run
from ctkit_models.slices import Batches
from ctkit_models.views import Draws, Normalise
from ctkit_torch.trunks import build_trunk

METHODS = ("simclr", "moco", "swav", "byol")
GOALS = {"on device": 0.9, "plain": 5.0}  #: of their rates, on an H200 with 16 cores
WARM = 3  #: first steps that do not count
FEWEST, MOST = WARM + 4, 500  #: steps, where seconds decide
VOLUMES, SLICES = 4, 32  #: in the slice store, and slices of each
MEAN, STD = 0.2, 0.2
FED = 128  #: slices whose making ready is timed
MATRIX = {"cuda": 8192, "cpu": 1024}  #: side of the matrices whose product measures the device

Figures = Iterator[Figure]
Prepare = Callable[[Network, list[Tensor]], Callable[[list[Tensor]], object]]


@dataclass(frozen=True)
class Setting:
    """What every training of this run shares."""

    folder: Path  #: holds the slice store and the PNG files
    device: str
    steps: int  #: of a training, at most where ``seconds`` are given
    slice: int  #: side of a stored slice, pixels
    options: dict[str, Any]  #: parameters of the method that are not the paper's
    seconds: float = math.inf  #: that a training may take on the wall once it is warm


@dataclass(frozen=True)
class Measured:
    """What a training did."""

    rate: float  #: slices per second
    batch: int
    memory: float  #: peak, GB
    warming: float  #: seconds before the steps that count
    waiting: float | None = None  #: share of the time in which the device waited for slices


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
    if words.steps < FEWEST:
        parser.error(f"--steps must be at least {FEWEST} but is {words.steps}: the first {WARM} do not count")
    options = {name: getattr(words, name) for name in ("size", "batch", "backbone") if getattr(words, name)}
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(Path(name), words.device, words.steps, words.slice, options)
        alone(write_slices, setting)
        for method in words.methods or METHODS:
            print(f"{method}: {described(method, setting)}, {setting.device}")
            for figure in (*feeding(method, setting), *compare(method, setting)):
                print(figure, flush=True)


def compare(method: str, setting: Setting, ways: Iterable[str] = ("network", "on device", "ctkit", "plain")) -> Figures:
    """What one method does in each way, and how ``ctkit`` compares with the others.

    Where ``setting`` gives seconds, the network's own rate says how many steps of the engine fill them.
    """
    found: dict[str, Measured] = {}
    for way in ways:
        measured = tried(WAYS[way], method, setting)
        if isinstance(measured, str):
            yield Figure(way, None, "slices/s", measured)
            continue
        found[way] = measured
        yield Figure(way, measured.rate, "slices/s")
        yield Figure(f"{way}, peak memory", measured.memory, "GB")
        if way == "network" and math.isfinite(setting.seconds):
            setting = replace(setting, steps=fitting(measured, setting))
    if "ctkit" in found:
        yield from judged(method, setting, found)


def judged(method: str, setting: Setting, found: dict[str, Measured]) -> Figures:
    """What follows from the rates: ratios, the share of waiting, and how well the device's arithmetic is used."""
    ours = found["ctkit"]
    for way, other in found.items():
        if way != "ctkit":
            yield Figure(f"ctkit / {way}", ours.rate / other.rate, "", goal(way, ours.rate / other.rate, setting))
    yield Figure("waiting for slices", None if ours.waiting is None else 100 * ours.waiting, "%")
    flops = tried(flops_of_step, method, setting, ours.batch)
    if isinstance(flops, str):
        yield Figure("arithmetic of the network", None, "TFLOP/s", flops)
        return
    rate = flops * ours.rate / ours.batch
    yield Figure("arithmetic of the network", rate / 1e12, "TFLOP/s")
    matrices = tried(matrix_rate, setting.device)
    if isinstance(matrices, str):
        yield Figure("product of large matrices", None, "TFLOP/s", matrices)
        return
    yield Figure("product of large matrices", matrices / 1e12, "TFLOP/s")
    yield Figure("arithmetic of the network / of matrices", 100 * rate / matrices, "%")


def goal(way: str, ratio: float, setting: Setting) -> str:
    """Whether a ratio reaches its goal, where it has one."""
    if way not in GOALS or setting.device == "cpu":
        return ""
    return f"goal {GOALS[way]:g}: {'reached' if ratio >= GOALS[way] else 'MISSED'}"


def fitting(network: Measured, setting: Setting) -> int:
    """Steps that fill the seconds at the network's own rate."""
    return min(MOST, max(FEWEST, WARM + round(network.rate / network.batch * setting.seconds)))


def described(method: str, setting: Setting) -> str:
    """The settings that matter, in words."""
    params = built(method, setting).params
    return (
        f"{params.backbone}, batch {params.batch}, views of {params.size} pixels of slices of {setting.slice}, "
        f"precision {params.precision}"
    )


# --- ctkit's ways -------------------------------------------------------------------------------------------------


def network_alone(name: str, setting: Setting) -> Measured:
    """Train on views of one batch that stay on the device, without Lightning."""
    return network_with(name, setting, None)


def network_with(name: str, setting: Setting, prepare: Prepare | None) -> Measured:
    """The same; what ``prepare(network, views)`` returns, if anything, takes the place of forward and backward pass."""
    clock = Clock(setting.device, setting.seconds)
    method = built(name, setting)
    network, plan = on_device_network(method, setting)
    views = ready_views(method, setting, plan.batch)
    torch.backends.cudnn.benchmark = setting.device == "cuda"
    gradients = prepare(network, views) if prepare else None
    learn(network, method, [views] * setting.steps, clock, gradients)
    return Measured(plan.batch * clock.steps_per_second, plan.batch, clock.memory, clock.warming)


def as_it_is(name: str, setting: Setting) -> Measured:
    """Train by ctkit's engine."""
    method, clock = built(name, setting), Clock(setting.device)
    meters: list[Meters] = []

    def metered(device: torch.device) -> Meters:
        meters.append(Meters(device))
        return meters[-1]

    clock.at_start = lambda: meters[-1].waiting.take()  # the start of the processes that read is nothing of a step
    job = Pretraining(
        rows=arm(setting),
        seed=0,
        device=setting.device,
        workers=usable_cores(),
        folder=Path(tempfile.mkdtemp(dir=setting.folder)),
        metadata={},
        progress=clock.tick,
        metric=lambda name, value, step: None,
    )
    with patch.object(engine, "Meters", metered):
        done = method.pretrain(job)
    memory = done.peak_bytes / 1e9 if done.peak_bytes else clock.memory  # the engine resets a GPU's counter
    waiting = None if done.waiting is None else done.waiting * done.seconds / clock.seconds_on_wall
    return Measured(done.batch * clock.steps_per_second, done.batch, memory, clock.warming, waiting)


def on_device(name: str, setting: Setting) -> Measured:
    """Train on one batch of slices that stays on the device."""

    def ready(batches: Dataset[Tensor], **_: Any) -> Any:
        return DataLoader(Held(batches[0].to(setting.device)), batch_size=None, sampler=range(setting.steps))

    with patch.object(engine, "DataLoader", ready):
        return as_it_is(name, setting)


@dataclass(frozen=True)
class Held(Dataset[Tensor]):
    """The same batch for every step."""

    batch: Tensor

    def __getitem__(self, step: int) -> Tensor:
        return self.batch


class Clock:
    """Watches a training's steps, and the memory they take. The last step is left out: the engine saves and judges."""

    def __init__(self, device: str, seconds: float = math.inf, warm: int = WARM) -> None:
        self._on_gpu = device == "cuda"
        if not self._on_gpu:
            torch.set_num_threads(1)
        self._seconds, self._warm = seconds, warm
        self._made = self._start_wall = time.perf_counter()
        self._start = self._end = self.seconds_on_wall = 0.0
        self._steps = 0
        self.over = False  #: the seconds are used up
        self.at_start: Callable[[], object] = lambda: None  #: called before the first step that counts

    def tick(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` steps are done."""
        if done == self._warm:
            self.at_start()
            self._start, self._start_wall = self._now(), time.perf_counter()
        elif done > self._warm and not self.over:
            self.over = time.perf_counter() - self._start_wall >= self._seconds
            if self.over or done == total - 1:
                self._end, self._steps = self._now(), done - self._warm
                self.seconds_on_wall = time.perf_counter() - self._start_wall

    def _now(self) -> float:
        if self._on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() if self._on_gpu else time.process_time()

    @property
    def steps_per_second(self) -> float:
        """Of the steps that count."""
        return self._steps / (self._end - self._start)

    @property
    def warming(self) -> float:
        """Seconds on the wall from the making of this clock to the first step that counts."""
        return self._start_wall - self._made

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
    on_gpu = torch.backends.cudnn.benchmark = setting.device == "cuda"
    workers = usable_cores() if on_gpu else 0
    # Each worker's first batch is there at about the same time: rounds of them are counted, from the end of the first.
    clock = Clock(setting.device, setting.seconds, max(WARM, workers))
    method = built(name, setting, channels=3)
    plan = plan_run(method.params, len(arm(setting)))
    steps = max(setting.steps, 4 * workers)
    pictures = Pictures(setting.folder / "png", lightly_transform(name, method), plan.batch * steps)
    loader = DataLoader(pictures, plan.batch, shuffle=True, num_workers=workers, pin_memory=on_gpu)
    network = method.network(build_trunk(method.params.backbone), plan).to(setting.device).train()
    batches = ([view.to(setting.device, non_blocking=True) for view in views] for views in loader)
    learn(network, method, batches, clock, total=steps)
    return Measured(plan.batch * clock.steps_per_second, plan.batch, clock.memory, clock.warming)


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


WAYS: dict[str, Callable[[str, Setting], Measured]] = {
    "network": network_alone,
    "on device": on_device,
    "ctkit": as_it_is,
    "plain": plain,
}


# --- feeding -------------------------------------------------------------------------------------------------------


def feeding(method: str, setting: Setting) -> Figures:
    """What one core gets ready in each way."""
    ours, plain = alone(fed, method, setting)
    yield Figure("a core gets ready for ctkit", ours, "slices/s")
    yield Figure("a core gets ready the plain way", plain, "slices/s")


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
    options = {"steps": setting.steps, "log_every": setting.steps, **setting.options, **more}
    method: Contrastive[Any] = kind(kind.params_type(**options))
    return method


def on_device_network(method: Contrastive[Any], setting: Setting) -> tuple[Network, Plan]:
    """The network that the engine would train, on the device, and for how long."""
    plan = plan_run(method.params, len(arm(setting)))
    network = method.network(build_trunk(method.params.backbone, method.params.channels), plan)
    network = accelerate(network, method.params, on_gpu=setting.device == "cuda")
    return network.to(setting.device).train(), plan


@torch.no_grad()
def ready_views(method: Contrastive[Any], setting: Setting, batch: int) -> list[Tensor]:
    """Views of a batch on the device, as the engine makes them."""
    params = method.params
    slices = Batches(arm(setting), 0, batch)[0].to(setting.device)
    draws = Draws(0, 0, batch, device=slices.device)
    views = [view(slices, draws).expand(-1, params.channels, -1, -1) for view in method.views(Normalise(MEAN, STD))]
    side_by_side = channels_last(params, on_gpu=slices.is_cuda)
    form = torch.channels_last if side_by_side else torch.contiguous_format
    return [view.contiguous(memory_format=form) for view in views]


def learn(
    network: Network,
    method: Contrastive[Any],
    batches: Iterable[list[Tensor]],
    clock: Clock,
    gradients: Callable[[list[Tensor]], object] | None = None,
    total: int | None = None,
) -> None:
    """Train in a plain loop until batches or the clock's seconds end; ``gradients(views)`` replaces a backward pass."""
    optimiser = build_optimiser(network, method.params)
    total = total or method.params.steps or 0
    for step, views in enumerate(batches):
        if gradients:
            gradients(views)
        else:
            optimiser.zero_grad()
            loss_of(network, views).backward()  # type: ignore[no-untyped-call]  # torch types it not
        network.after_backward(step)
        optimiser.step()
        network.after_step(step)
        clock.tick(step + 1, total)
        if clock.over:
            return


def loss_of(network: torch.nn.Module, views: list[Tensor]) -> Tensor:
    """The loss, in the arithmetic that ctkit takes on this device."""
    on_gpu = views[0].is_cuda
    with torch.autocast("cuda" if on_gpu else "cpu", torch.bfloat16, enabled=on_gpu):
        loss: Tensor = network(views)
    return loss


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


def flops_of_step(name: str, setting: Setting, batch: int) -> float:
    """Floating-point operations of the network in one step, forward and backward."""
    method = built(name, setting)
    network, _ = on_device_network(method, setting)
    views = ready_views(method, setting, batch)
    with FlopCounterMode(display=False) as counter:
        loss_of(network, views).backward()  # type: ignore[no-untyped-call]  # torch types it not
    return float(counter.get_total_flops())


def matrix_rate(device: str) -> float:
    """Floating-point operations a second of a product of large matrices: in bf16 on a GPU, in fp32 on one thread."""
    on_gpu, side = device == "cuda", MATRIX[device]
    torch.set_num_threads(1)
    matrix = torch.rand(side, side, device=device, dtype=torch.bfloat16 if on_gpu else torch.float32)
    for _ in range(WARM):
        matrix @ matrix
    if on_gpu:
        torch.cuda.synchronize()
    clock = time.perf_counter if on_gpu else time.process_time
    start, times = clock(), 50 if on_gpu else 10
    for _ in range(times):
        matrix @ matrix
    if on_gpu:
        torch.cuda.synchronize()
    return times * 2 * side**3 / (clock() - start)


if __name__ == "__main__":
    main()
