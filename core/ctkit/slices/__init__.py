"""Slices of a data set: the catalogue of volumes, the table and the selections, the store of rendered rows."""

from __future__ import annotations

from ctkit.slices.catalogue import Catalogue, write_catalogue
from ctkit.slices.selection import Choice, EvidenceOf, Selection, Table
from ctkit.slices.store import Shard, SliceStore, gather

__all__ = [
    "Catalogue", "Choice", "EvidenceOf", "Selection", "Shard", "SliceStore", "Table", "gather", "write_catalogue",
]  # fmt: skip
