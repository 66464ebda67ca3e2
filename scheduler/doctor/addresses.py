"""The addresses that we listen on: who can reach them, and whether somebody else has them."""

from collections.abc import Iterator
from typing import Final

from scheduler.doctor.facts import Facts, Occupant
from scheduler.doctor.findings import Check, Finding
from scheduler.settings.places import Listen, is_loopback

ADDRESSES: Final = Check("addresses")


def examined(facts: Facts) -> Iterator[Finding]:
    """How it stands with the daemon's address, and with the embedded API's where that is in use."""
    if facts.configuration is None:
        return
    server, api = facts.settings.server.listen, facts.settings.api.listen
    if server is None:
        yield ADDRESSES.notice(
            "server.listen",
            "the daemon serves no pages: no metrics, no health, and no status",
            "set it to 127.0.0.1:9464",
        )
    else:
        what = "metrics, health and what the automations are called and do are open to it, without a key"
        yield _address("server.listen", server, facts.server, what)
    if api is not None and facts.embedded is not None:
        yield _address("api.listen", api, facts.embedded_server, "the embedded API is open to it, and its keys are sent without TLS")


def _address(subject: str, listen: Listen, occupant: Occupant, exposed: str) -> Finding:
    if occupant == "somebody":
        return ADDRESSES.fault(
            subject,
            f"something answers at {listen} that is no scheduler in working order",
            f"see what it is (ss -ltnp 'sport = :{listen.port}') and stop it, or take another port",
        )
    if not is_loopback(listen.host):
        return ADDRESSES.warning(
            subject,
            f"{listen} is open to the network: {exposed}",
            f"listen on 127.0.0.1:{listen.port}, with a proxy before it that asks who is there; or let a firewall choose who may connect",
        )
    return ADDRESSES.ok(subject, f"{listen} is this machine's own" + ("; a scheduler answers there" if occupant == "scheduler" else ""))
