"""What lies on disk: the cache of results by their address, locks, and the run folder with all its files."""

from __future__ import annotations

from ctkit.storage.cache import ENTRY, KINDS, Cache, address, make_folder, parsed, spelled_one_way
from ctkit.storage.run_folder import ArmFolder, Outline, RunFolder, TrainingFolder, forget, place, read_provenance

__all__ = [
    "ENTRY", "KINDS", "ArmFolder", "Cache", "Outline", "RunFolder", "TrainingFolder", "address", "forget",
    "make_folder", "parsed", "place", "read_provenance", "spelled_one_way",
]  # fmt: skip
