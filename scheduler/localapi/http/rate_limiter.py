"""The limit on the requests of a key in any minute, counted as in the framework's rate throttle."""

import math
from collections import defaultdict, deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from scheduler.localapi.http.errors import ApiError

_MINUTE: Final = 60.0


class KeyRateLimiter:
    """A limit for each key. ``per_minute`` 0 means no limit. ``now`` is a monotonic clock in seconds."""

    def __init__(self, per_minute: int, now: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._now = now
        self._requests: defaultdict[str, deque[float]] = defaultdict(deque)  # by key, the oldest first

    def count_request(self, key_id: str) -> None:
        """Count a request. Raises `ApiError` (429) for a request over the limit, which is not counted."""
        if not self._per_minute:
            return
        now, admitted = self._now(), self._requests[key_id]
        while admitted and admitted[0] <= now - _MINUTE:
            admitted.popleft()
        if len(admitted) >= self._per_minute:
            raise _make_throttled_error(math.ceil(admitted[0] + _MINUTE - now))
        admitted.append(now)


def _make_throttled_error(seconds: int) -> ApiError:
    """Make a 429: the next request of the key is accepted after these seconds."""
    detail = f"Request was throttled. Expected available in {seconds} second{'' if seconds == 1 else 's'}."
    return ApiError(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": str(seconds)})
