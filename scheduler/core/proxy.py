"""An HTTP proxy for requests to a target: its address, which may be shown, and its credentials, which may not."""

from base64 import b64encode
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that speaks HTTP. ``url`` has no credentials in it; an empty ``user`` and ``password``: the proxy asks for none."""

    url: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def has_credentials(self) -> bool:
        """Whether the proxy is told who asks."""
        return bool(self.user or self.password)

    @property
    def authorization(self) -> str:
        """The value of ``Proxy-Authorization`` (RFC 7617); empty without credentials. A secret."""
        return "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode() if self.has_credentials else ""

    def __str__(self) -> str:
        """Return the address as people may see it, with stars for credentials."""
        return self.url.replace("://", "://***@", 1) if self.has_credentials else self.url
