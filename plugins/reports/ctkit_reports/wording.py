"""Numbers as a reader wants them: counts, shares, times, scores and p values in plain typography."""

from __future__ import annotations

import math
import re
from datetime import datetime

NOTHING = "–"  #: stands for a value that is not there


def number(value: float) -> str:
    """A number of any size with what digits matter: 6, 0.82, 1,234."""
    if math.isnan(value):
        return NOTHING
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:,.3g}".replace("-", "−")


def percent(share: float) -> str:
    """A share as "17.5 %"; a small one that is not 0 as "<0.01 %"."""
    if 0 < share < 1e-4:
        return "<0.01\N{NO-BREAK SPACE}%"
    if math.isnan(share):
        return NOTHING
    digits = 0 if share in (0.0, 1.0) else 1 if share >= 0.01 else 2
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def duration(seconds: float) -> str:
    """Seconds in the two units that matter, unbroken: "4.2 s", "3 min 12 s", "2 h 5 min"."""
    if math.isnan(seconds):
        return NOTHING
    if seconds == 0 or seconds >= 59.95:
        return _whole(round(seconds)).replace(" ", "\N{NO-BREAK SPACE}")
    return f"{1000 * seconds:.0f}\N{NO-BREAK SPACE}ms" if seconds < 1 else f"{seconds:.1f}\N{NO-BREAK SPACE}s"


def _whole(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def energy(joules: float) -> str:
    """Joules in the unit of electricity meters: "71.1 Wh", "1.4 kWh"."""
    if math.isnan(joules):
        return NOTHING
    hours = joules / 3600
    return f"{number(hours)}\N{NO-BREAK SPACE}Wh" if hours < 1000 else f"{number(hours / 1000)}\N{NO-BREAK SPACE}kWh"


def moment(stamp: str) -> str:
    """A time stamp (ISO 8601) to the minute."""
    return datetime.fromisoformat(stamp).strftime("%Y-%m-%d %H:%M %Z").strip() if stamp else ""


def apart(distance: float, unit: str) -> str:
    """A distance with its unit: "3 bits", "1 bit", "0.42 (1 − SSIM)"; "" where there is none."""
    if math.isnan(distance):
        return ""
    if unit[:1].isdigit():  # a formula
        return f"{number(distance)} ({formula(unit)})"
    return f"{number(distance)} {unit.removesuffix('s') if distance == 1 else unit}".strip()


def formula(unit: str) -> str:
    """A unit with the sign that print has for minus: "1 − SSIM"."""
    return unit.replace(" - ", " − ")


def index(value: float) -> str:
    """An index in 0..1 with two decimals."""
    return NOTHING if math.isnan(value) else f"{value:.2f}"


def score(value: float) -> str:
    """A score with three decimals."""
    return NOTHING if math.isnan(value) else f"{value:.3f}".replace("-", "−")


def difference(value: float) -> str:
    """A difference of scores with its sign."""
    return NOTHING if math.isnan(value) else f"{value:+.3f}".replace("-", "−")


def interval(low: float, high: float, signed: bool = False) -> str:
    """An interval as "0.82 to 0.91"; "" where there is none."""
    if math.isnan(low) or math.isnan(high):
        return ""
    form = difference if signed else score
    return f"{form(low)} to {form(high)}"


def p_value(p: float) -> str:
    """A p value as papers print it: "0.021", "< 0.001"."""
    if math.isnan(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_statement(p: float) -> str:
    """As a sentence has it: "p = 0.021", "p < 0.001"."""
    words = f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def times(ratio: float) -> str:
    """A ratio as "5.4 ×"."""
    return f"{ratio:.1f} ×" if ratio < 100 else f"{ratio:,.0f} ×"


def work(stage: str) -> str:
    """What a stage does, to begin a sentence with."""
    known = {"describe": "Describing", "select": "Selection", "pretrain": "Pre-training", "evaluate": "Evaluation"}
    return known.get(stage, stage.capitalize())


def labels(share: float) -> str:
    """How much of the training labels was used."""
    return "all labels" if math.isnan(share) or share == 1 else f"{100 * share:.3g}\N{NO-BREAK SPACE}% of the labels"


def metric(name: str) -> str:
    """A metric's name for people: "auc" is "AUC", "balanced_accuracy" is "Balanced accuracy"."""
    words = re.sub(r"\b(\d+) (?=specificity|sensitivity)", r"\1 % ", name.replace("_", " ").replace("-", " "))
    words = re.sub(r"^hd95", "HD95 in mm", words)
    known = {"auc": "AUC", "auroc": "AUC", "ece": "ECE", "brier": "Brier score", "knn": "k-NN accuracy"}
    return known.get(words.lower(), words[:1].upper() + words[1:])


def listing(words: list[str]) -> str:
    """Words as a sentence lists them: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
