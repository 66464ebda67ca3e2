"""The listen addresses: the machines that can reach them, and other programs that occupy them."""

from collections.abc import Iterator
from typing import Final

from scheduler.doctor.facts import Facts, Occupant, ProcessFacts, UnknownFact
from scheduler.doctor.findings import Check, CheckFinding
from scheduler.settings.addresses import SocketAddress, is_loopback

ADDRESSES: Final = Check("addresses")


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the daemon's address, and about the embedded API's address when in use."""
    if facts.configuration is None:
        return
    server, api = facts.settings.server.listen, facts.settings.api.listen
    if server is None:
        yield ADDRESSES.about("server.listen").notice(
            "the daemon serves no pages: no metrics, no health, and no status", "set it to 127.0.0.1:9464"
        )
    else:
        what = "anybody there can read metrics, health and the pages about automations without a key"
        yield _check_address("server.listen", server, facts.server, what, facts.daemon_process)
    if api is not None and facts.embedded is not None:
        what = "anybody there can reach the embedded API, and clients send its keys without TLS"
        yield _check_address("api.listen", api, facts.embedded_server, what, facts.embedded_process)


def _check_address(
    subject: str,
    listen: SocketAddress,
    occupant: Occupant,
    exposed: str,
    process: ProcessFacts | UnknownFact | None,
) -> CheckFinding:
    is_ours = isinstance(process, ProcessFacts)
    if occupant == "silent" and not is_ours:
        return ADDRESSES.about(subject).fault(
            f"a program accepts connections at {listen} and does not answer, and no process of the "
            "scheduler is known there",
            f"find the program (ss -ltnp 'sport = :{listen.port}') and stop it, or take another port",
        )
    if occupant == "somebody":
        return ADDRESSES.about(subject).fault(
            f"a program answers at {listen}, but no working scheduler",
            f"find the program (ss -ltnp 'sport = :{listen.port}') and stop it, or take another port",
        )
    if not is_loopback(listen.host):
        return ADDRESSES.about(subject).warning(
            f"{listen} is open to the network: {exposed}",
            f"listen on 127.0.0.1:{listen.port}, behind a proxy that authenticates its users; or let "
            "a firewall restrict the connections",
        )
    answer = {"scheduler": "; a scheduler answers there", "silent": "; the scheduler there does not answer"}
    return ADDRESSES.about(subject).ok(f"{listen} is this machine's own{answer.get(str(occupant), '')}")
