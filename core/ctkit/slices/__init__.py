"""Slices of a data set: the catalogue of volumes, the table and the selections, the store of rows, pictures."""

from __future__ import annotations

from ctkit.slices.catalogue import Catalogue, write_catalogue
from ctkit.slices.packs import Packs, packed
from ctkit.slices.pictures import Mistakes, Pictures, read_mistakes, read_pictures, write_mistakes, write_pictures
from ctkit.slices.selection import Choice, EvidenceOf, Selection, Table
from ctkit.slices.store import Shard, SliceStore, gather

__all__ = [
    "Catalogue", "Choice", "EvidenceOf", "Mistakes", "Packs", "Pictures", "Selection", "Shard", "SliceStore", "Table",
    "gather", "packed", "read_mistakes", "read_pictures", "write_catalogue", "write_mistakes", "write_pictures",
]  # fmt: skip
