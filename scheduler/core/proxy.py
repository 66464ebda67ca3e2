"""An HTTP proxy for requests to a target: its public address and its secret credentials."""

from base64 import b64encode
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. ``url`` has no credentials.

    An empty ``user`` and ``password`` mean a proxy without credentials.
    """

    url: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def has_credentials(self) -> bool:
        """Whether requests send credentials to the proxy."""
        return bool(self.user or self.password)

    @property
    def authorization(self) -> str:
        """The value of ``Proxy-Authorization`` (RFC 7617), for a proxy with credentials. A secret."""
        return "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode()

    def __str__(self) -> str:
        """Return the address for people, with stars in place of credentials."""
        return self.url.replace("://", "://***@", 1) if self.has_credentials else self.url
