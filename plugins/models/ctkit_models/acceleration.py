"""Ways to train the same network faster or in less memory: memory layout, compilation, gradient checkpointing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ctkit_models.network import Network
from ctkit_models.parameters import ContrastiveParams
from ctkit_torch.trunks import Trunk


def accelerate(network: Network, params: ContrastiveParams, *, on_gpu: bool) -> Network:
    """Give the network what ``params`` ask for. Its weights and their names stay as they are."""
    if channels_last(params, on_gpu=on_gpu):
        network = network.to(memory_format=torch.channels_last)
    if params.checkpointing:
        checkpoint_blocks(network.trunk)
    if params.compile:
        compile_trunks(network)
    return network


def channels_last(params: ContrastiveParams, *, on_gpu: bool) -> bool:
    """Whether a pixel's channels lie side by side in memory, as a GPU's convolutions like them."""
    return on_gpu if params.channels_last is None else params.channels_last


def compile_trunks(network: Network) -> None:
    """Have torch compile each trunk, also those that follow, when it first sees images of a size.

    What it compiled before is forgotten: it compiles only so many variants of the code that all trunks share.
    """
    torch.compiler.reset()
    for module in network.modules():
        if isinstance(module, Trunk):
            module.compile(dynamic=False)


def checkpoint_blocks(trunk: Trunk) -> None:
    """Have each block of the trunk keep its input alone, and compute the rest again when gradients need it.

    That is gradient checkpointing (Chen et al. 2016, arXiv 1604.06174).
    """
    for block in blocks(trunk.network):
        again = partial(_contexts, block)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=again)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The modules that a network repeats, such as residual blocks; the network itself where it repeats none."""
    found = list(_repeated(network))
    return found or [network]


def _repeated(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        parts = list(child.children())
        if isinstance(child, nn.Sequential) and len(parts) > 1 and _alike(parts):
            yield from parts
        else:
            yield from _repeated(child)


def _alike(parts: list[nn.Module]) -> bool:
    return len({type(part) for part in parts}) == 1 and any(True for _ in parts[0].children())


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Let batch normalisation not count a batch that it has counted already."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = norm.num_batches_tracked.clone()  # type: ignore[union-attr]  # those that track have one
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
