"""Names of convolution kernels that may be told: those that scanners write. Anything else might name somebody."""

from __future__ import annotations

import re

OTHER = "other"

_KERNEL = re.compile(
    r"[ABDHIJKQSTU][A-Z]?\d{2}[A-Z]{0,2}"  # Siemens: B30f, Br38f, I31f, Qr40d
    r"|F[CL]\d{2}(-\w)?"  # Canon: FC08, FL03
    r"|[A-FILSUY]|[CEUXY][A-D]|XCA|XCB|XCC|IQON|BRAIN[ _]?(STANDARD|SHARP|SMOOTH)"  # Philips: B, YA, UB
    r"|(HD ?)?(STANDARD|STND|SOFT|LUNG|BONE|BONEPLUS|DETAIL|EDGE|ULTRA|CHEST|STD)[+]?"  # GE
    r"|[BHC]_[A-Z]*(SOFT|SHARP|SMOOTH|STANDARD)[A-Z]*(_[A-Z])?"  # United Imaging: B_SOFT_B
    r"|BODY|HEAD|BRAIN|SHARP|SMOOTH|MEDIUM|NORMAL",
    re.IGNORECASE,
)


def known_kernel(text: str) -> str:
    r"""Return a convolution kernel as a scanner names it, "other" for what none would write, "" for nothing.

    >>> known_kernel("Br38f\\3"), known_kernel("Jane Doe")
    ('Br38f', 'other')
    """
    name = text.partition("\\")[0].strip()
    return name if not name or _KERNEL.fullmatch(name) else OTHER
