"""Whether a parser's time is linear in its input: inputs of repeated pieces, at a quarter of the limit and at
the limit.

Time is that of the thread alone, so that a busy machine does not count; the garbage collector, which looks at
the whole test process, rests meanwhile. Each measurement is the shortest of several, and an input that looks
too steep is measured again until it does not, or stays so. For four times the input, a linear parser takes
four times as long, and a quadratic parser sixteen times.
"""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence

STEEPEST = 7.0
"""How much longer four times the input may take: caches that other processes fill slow the longer input."""
_COPIED = 10e-9
"""Seconds for each character in which an input is rather copied than parsed.

Caches and pages of memory make steps in so short a time.
"""
_LONG_ENOUGH = 0.003
"""Seconds that a measurement takes at least: a shorter one is repeated within the measurement."""
_TRIES = 6
_PATIENCE = 4.0
"""Seconds of the thread's time for which an input that looks too steep is measured again, and at least
`_TRIES` times.
"""

Parse = Callable[[str], object]


def draw_inputs(
    pieces: Sequence[str], *, count: int, seed: int, prefix: str = ""
) -> Iterator[Callable[[int], str]]:
    """Draw ``count`` inputs: each makes a text of a given length by repeating a few of the pieces, and every
    piece alone is among them.
    """
    draw = random.Random(seed)
    units = [
        *pieces,
        *("".join(draw.choices(pieces, k=draw.randint(2, 5))) for _ in range(count - len(pieces))),
    ]
    for unit in units:
        end = draw.choice(("", draw.choice(pieces)))

        def make(length: int, unit: str = unit, end: str = end) -> str:
            room = max(length - len(prefix) - len(end), 0)
            return prefix + unit * (room // len(unit)) + end

        yield make


def assert_linear(
    parse: Parse, pieces: Sequence[str], limit: int, *, prefix: str = "", count: int = 40
) -> None:
    """Assert that the parser takes at most `STEEPEST` times as long at its limit as at a quarter of it, for
    each of the drawn inputs.
    """
    gc.disable()
    try:
        for make in draw_inputs(pieces, count=count, seed=limit, prefix=prefix):
            steepness = _measure_steepness(parse, make(limit // 4), whole := make(limit))
            assert steepness <= STEEPEST, (
                f"{whole[:80]!r}… of {limit} characters takes {steepness:.1f} times as long as a quarter"
            )
    finally:
        gc.enable()


def _measure_steepness(parse: Parse, quarter: str, whole: str) -> float:
    """Return how many times as long ``whole`` takes as ``quarter``; 1 for an input that is as good as
    copied.
    """
    longer = _time(parse, whole, 1)
    if longer <= _COPIED * len(whole):
        return 1.0
    repeats = max(1, int(_LONG_ENOUGH / longer))
    shorter, longer = _time(parse, quarter, repeats), min(longer, _time(parse, whole, repeats))
    tries, began = 0, time.thread_time()
    while longer > max(STEEPEST * shorter, _COPIED * len(whole)) and (
        tries < _TRIES or time.thread_time() - began < _PATIENCE
    ):
        tries += 1
        shorter, longer = (
            min(shorter, _time(parse, quarter, repeats)),
            min(longer, _time(parse, whole, repeats)),
        )
    return 1.0 if longer <= _COPIED * len(whole) else longer / shorter


def _time(parse: Parse, text: str, repeats: int) -> float:
    began = time.thread_time()
    for _ in range(repeats):
        parse(text)
    return (time.thread_time() - began) / repeats
