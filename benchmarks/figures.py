"""What a benchmark found: figures with their units, and the files that hold them. Needs the standard library alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One number, or the reason why there is none. What is infinite or NaN is not a number."""

    name: str
    value: float | None
    unit: str
    note: str = ""  #: why there is no value, or what a reader must know of it

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            object.__setattr__(self, "note", f"{self.value} {self.note}".strip())
            object.__setattr__(self, "value", None)

    def __str__(self) -> str:
        value = "" if self.value is None else f"{spoken(self.value)} {self.unit}"
        return f"  {self.name:<52} {value:>18}" + (f"  {self.note}" if self.note else "")


def spoken(value: float) -> str:
    """A number with as many digits as it is good for."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def save(path: Path, document: Any) -> None:
    """Write a JSON file; a process that is killed meanwhile leaves the one that was there."""
    save_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def save_text(path: Path, text: str) -> None:
    """Write a text file in the same way."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
