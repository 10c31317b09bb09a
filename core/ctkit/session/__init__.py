"""What one start of a run shares: pipeline, cache, run folder, workers, provenance; and the parts it works on."""

from __future__ import annotations

from ctkit.session.only import EVERYTHING, Only, parse
from ctkit.session.provenance import Provenance
from ctkit.session.session import Session, open_session

__all__ = ["EVERYTHING", "Only", "Provenance", "Session", "open_session", "parse"]
