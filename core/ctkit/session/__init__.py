"""What one start of a run shares: pipeline, cache, run folder, workers, provenance; and the parts it works on."""

from __future__ import annotations

from ctkit.session.only import EVERYTHING, Only, parse
from ctkit.session.opening import open_session
from ctkit.session.provenance import Provenance, Stopwatch
from ctkit.session.session import Session

__all__ = ["EVERYTHING", "Only", "Provenance", "Session", "Stopwatch", "open_session", "parse"]
