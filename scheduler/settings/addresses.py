"""Settings for addresses: the API's URL, an address to listen on, a database.

Each parser checks and normalises a value. `InvalidSetting` never repeats the value: a URL may contain a
password by mistake.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic_core import Url

from scheduler.core.proxy import Proxy
from scheduler.settings.problems import InvalidSetting, format_value

_URL_REMEDY: Final = 'write it as "https://us.posthog.com"'
_LISTEN_REMEDY: Final = 'write "127.0.0.1:9464", "[::1]:9464", or "" for none'
_DATABASE_REMEDY: Final = 'write "sqlite:////var/lib/scheduler/scheduler.db": three slashes and a path'
_PROXY_REMEDY: Final = (
    'write it as "http://proxy.example.org:3128", or "http://user:password@proxy.example.org:3128"'
)
_HTTP_PORT: Final = 80
_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  with the address to ask at instead
_LAST_PORT: Final = 65_535
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*", re.ASCII
)


def parse_api_url(value: object) -> str:
    """Parse an API's base URL into the normal form: lower-case host, no default port, no slash at the end.

    A path may stay.
    """
    if not isinstance(value, str):
        raise InvalidSetting(f"should be a URL, not {format_value(value)}", _URL_REMEDY)
    if not value:
        raise InvalidSetting("is empty", _URL_REMEDY)
    if not value.lower().startswith(("https://", "http://")):
        raise InvalidSetting("should begin with https:// or http://", _URL_REMEDY)
    url = _parse_url(value)
    if "@" in value.partition("//")[2].partition("/")[0]:
        remedy = "write it without; the key is read from key_file, a credential or the environment"
        raise InvalidSetting("holds a user name or password", remedy)
    if "?" in value or "#" in value:
        raise InvalidSetting("holds a query or a fragment", _URL_REMEDY)
    return str(url).rstrip("/")


def _parse_url(value: str, remedy: str = _URL_REMEDY) -> Url:
    if any(character.isspace() or not character.isprintable() for character in value):
        raise InvalidSetting("holds a space or a control character", remedy)
    try:
        return Url(value)
    except ValueError:
        raise InvalidSetting("is not a valid URL", remedy) from None


def parse_proxy(value: object) -> Proxy | None:
    """Parse the URL of a proxy; None for the empty text.

    User name and password may be in the URL, percent-encoded.
    """
    if not isinstance(value, str):
        raise InvalidSetting("should be the URL of a proxy, as text", _PROXY_REMEDY)
    if not value:
        return None
    if not value.lower().startswith("http://"):
        what = "should begin with http://, also for a target with https://"
        raise InvalidSetting(f"{what}: TLS goes through the proxy to the target", _PROXY_REMEDY)
    url = _parse_url(value, _PROXY_REMEDY)
    if url.path not in {None, "/"} or "?" in value or "#" in value:
        what = "holds more than the address of a proxy: a path, a query or a fragment"
        raise InvalidSetting(what, _PROXY_REMEDY)
    host = url.host or ""
    user, password = unquote(url.username or ""), unquote(url.password or "")
    if ":" in user or not (user + password).isprintable():
        what = "holds a user name or password that HTTP cannot send"
        raise InvalidSetting(f"{what}: a colon in the name, or a control character", _PROXY_REMEDY)
    return Proxy(f"http://{host}:{url.port or _HTTP_PORT}", user, password)


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address always means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """An address to listen on. Port 0 lets the system choose a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local_address(self) -> "SocketAddress":
        """The address at which this machine itself reaches the listener."""
        return SocketAddress(_EVERY_ADDRESS.get(self.host, self.host), self.port)

    def is_reached_by(self, url: str) -> bool:
        """Return whether requests to a URL come here, as far as the address shows.

        A wildcard address is reached by any host. ``url`` is a result of `parse_api_url`.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.path or (parts.port or _HTTP_PORT) != self.port:
            return False
        host = parts.hostname or ""
        named = "localhost" in {host, self.host} and is_loopback(host) and is_loopback(self.host)
        return self.host in _EVERY_ADDRESS or host == self.host or named


def parse_listen(value: object) -> SocketAddress | None:
    """Parse ``host:port`` or ``[IPv6]:port``; None for the empty text."""
    if value == "":
        return None
    if not isinstance(value, str):
        raise InvalidSetting(f"should be an address to listen on, not {format_value(value)}", _LISTEN_REMEDY)
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _LAST_PORT:
        what = f"{format_value(value)} does not end in a port from 0 to {_LAST_PORT}"
        raise InvalidSetting(what, _LISTEN_REMEDY)
    return SocketAddress(_parse_host(host, value), int(port))


def _parse_host(host: str, value: str) -> str:
    if not host:
        remedy = 'write "0.0.0.0:PORT" to listen on every IPv4 address, "[::]:PORT" on all'
        raise InvalidSetting(f"{format_value(value)} names no host", remedy)
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            what = f"{format_value(value)} holds no valid IPv6 address between its brackets"
            raise InvalidSetting(what, _LISTEN_REMEDY) from None
    if not _HOST_NAME.fullmatch(host):
        raise InvalidSetting(f"{format_value(value)} holds no valid host", _LISTEN_REMEDY)
    return host


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A database in SQLAlchemy's form of URL.

    ``path`` is the file; a relative path counts from the working directory.
    """

    url: str

    @property
    def path(self) -> Path:
        """The file of the database."""
        return Path(self.url.removeprefix("sqlite:///"))

    def __str__(self) -> str:
        return self.url


def parse_database_url(value: object) -> DatabaseUrl:
    """Parse ``sqlite:////absolute`` or ``sqlite:///relative``. Only a file is accepted."""
    if not isinstance(value, str):
        raise InvalidSetting(f"should be the URL of a database, not {format_value(value)}", _DATABASE_REMEDY)
    if re.match(r"postgres(ql)?(\+\w+)?:", value, re.IGNORECASE):
        raise InvalidSetting("PostgreSQL is not supported yet: one node, on SQLite", _DATABASE_REMEDY)
    if not value.startswith("sqlite:///"):
        raise InvalidSetting("should begin with sqlite:///", _DATABASE_REMEDY)
    path = value.removeprefix("sqlite:///")
    if path in {"", ":memory:"} or path.endswith("/"):
        raise InvalidSetting("names no file, and the data must survive a restart", _DATABASE_REMEDY)
    if "?" in path or "#" in path or not path.isprintable():
        what = "holds more than a path: a query, a fragment or a control character"
        raise InvalidSetting(what, _DATABASE_REMEDY)
    return DatabaseUrl(value)
