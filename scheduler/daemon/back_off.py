"""Back-off: the time between two tries after failures."""

import random
from collections.abc import Callable
from typing import Final

FIRST_BACK_OFF: Final = 1.0
LONGEST_BACK_OFF: Final = 60.0


def back_off(failures: int, draw: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after ``failures`` failures in a row.

    The back-off is exponential with full jitter (Exponential Backoff And Jitter, AWS, 2015).
    """
    return max(0.1, draw() * min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2.0 ** min(failures, 10)))
