"""Numbers that depend on nothing but a seed: for initial weights, and for every step of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators, which initialise weights, and give them back as they were at the end."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()  # there may be GPUs it cannot use
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def derived_seed(*parts: int) -> int:
    """A 63-bit seed that is a pure function of ``parts``, such as a run's seed and a step."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
