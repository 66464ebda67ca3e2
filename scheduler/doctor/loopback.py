"""Which hosts are this machine itself, where nobody else listens in."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own, and no other can be behind it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
