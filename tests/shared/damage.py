"""Damages files as disks, copies and attackers do."""

from __future__ import annotations

import random


def mutate(data: bytes, draw: random.Random, start: int = 132, stop: int = 1500) -> bytes:
    """Damage a file: bytes changed, also in its header from ``start`` to ``stop``, a length or a block overwritten, a
    piece cut out, doubled or lost.
    """
    damaged = bytearray(data)
    kind = draw.choice(("bytes", "header bytes", "length", "cut", "remove", "insert", "zero"))
    place = draw.randrange(len(damaged))
    if kind == "bytes":
        for _ in range(draw.randint(1, 20)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
    elif kind == "header bytes":
        for _ in range(draw.randint(1, 20)):
            damaged[draw.randrange(start, min(len(damaged), stop))] = draw.randrange(256)
    elif kind == "length":
        place = draw.randrange(start, min(len(damaged), stop))
        damaged[place : place + 4] = draw.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\xff\xff"))
    elif kind == "cut":
        del damaged[place:]
    elif kind == "remove":
        del damaged[place : place + draw.randint(1, 500)]
    elif kind == "insert":
        damaged[place:place] = draw.randbytes(draw.randint(1, 500))
    else:
        damaged[place : place + 64] = bytes(64)
    return bytes(damaged)
