"""Requests to the pages of the running daemon."""

import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import IO, Any, Final

from scheduler.core.command_line import advise_log, advise_start_daemon
from scheduler.core.errors import ConfigurationError, NoAnswer, Unreachable
from scheduler.settings.addresses import SocketAddress
from scheduler.settings.models import Settings

_PATIENCE: Final = 5.0
_MAX_ANSWER_SIZE: Final = 16 * 2**20
_HEALTH_PAGES: Final = frozenset({"/healthz", "/readyz"})
"""Pages whose body has the same form with a 503 as with a 200: the state of each part."""


def fetch_page(settings: Settings, path: str) -> Any:
    """Fetch a page of the daemon as JSON.

    Raises `Unreachable` without a daemon, and `ConfigurationError` when the daemon serves no pages.
    """
    listen = settings.server.listen
    if listen is None:
        remedy = "set an address, for example 127.0.0.1:9464"
        raise ConfigurationError(f"the daemon serves no pages: [server] listen is empty; {remedy}")
    return fetch_page_at(listen, path)


def fetch_page_at(listen: SocketAddress, path: str, *, patience: float = _PATIENCE) -> Any:
    """Fetch a page at an address of this machine. Raises `Unreachable`."""
    url = f"http://{listen.local_address}{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy: a local address
    try:
        with _open(opener, url, path, patience) as answer:
            return json.loads(answer.read(_MAX_ANSWER_SIZE))
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ConnectionRefusedError):
            advice = "If one runs, compare [server] listen with its configuration"
            fault = f"no daemon runs here: {url} refuses the connection"
            raise Unreachable(f"{fault}; {advise_start_daemon()}. {advice}") from None
        kind = NoAnswer if isinstance(reason, TimeoutError) else Unreachable
        raise kind(f"no daemon answers at {url}: {reason}; {advise_log('scheduler')}") from None


def _open(opener: urllib.request.OpenerDirector, url: str, path: str, patience: float) -> IO[bytes]:
    try:
        answer: IO[bytes] = opener.open(url, timeout=patience)
    except urllib.error.HTTPError as error:
        if path not in _HEALTH_PAGES or error.code != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        return error
    return answer
