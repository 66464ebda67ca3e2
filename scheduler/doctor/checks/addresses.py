"""The listen addresses: the machines that can reach them, and other programs that occupy them."""

from collections.abc import Iterator

from scheduler.doctor.facts import Facts, Occupant, ProcessFacts
from scheduler.doctor.findings import CheckFinding, Subject
from scheduler.settings.addresses import SocketAddress, is_loopback


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the daemon's address, and about the embedded API's address when in use."""
    if facts.configuration is None:
        return
    server, api, subject = facts.settings.server.listen, facts.settings.api.listen, Subject("server.listen")
    if server is None:
        finding = "the daemon serves no pages: no metrics, no health, and no status"
        yield subject.notice(finding, "set it to 127.0.0.1:9464")
    else:
        exposed = "anybody there can read metrics, health and the pages about automations without a key"
        is_ours = isinstance(facts.daemon_process, ProcessFacts)
        yield _check_address(subject, server, facts.server, exposed, is_ours=is_ours)
    if api is not None and facts.embedded is not None:
        exposed = "anybody there can reach the embedded API, and clients send its keys without TLS"
        is_ours = isinstance(facts.embedded_process, ProcessFacts)
        yield _check_address(Subject("api.listen"), api, facts.embedded_server, exposed, is_ours=is_ours)


def _check_address(
    subject: Subject, listen: SocketAddress, occupant: Occupant, exposed: str, *, is_ours: bool
) -> CheckFinding:
    advice = f"find the program (ss -ltnp 'sport = :{listen.port}') and stop it, or take another port"
    if occupant == "silent" and not is_ours:
        silence = f"a program accepts connections at {listen} and does not answer"
        return subject.fault(f"{silence}, and no process of the scheduler is known there", advice)
    if occupant == "somebody":
        return subject.fault(f"a program answers at {listen}, but no working scheduler", advice)
    if not is_loopback(listen.host):
        advice = f"listen on 127.0.0.1:{listen.port}, behind a proxy that authenticates its users"
        advice += "; or let a firewall restrict the connections"
        return subject.warning(f"{listen} is open to the network: {exposed}", advice)
    answer = {"scheduler": "; a scheduler answers there", "silent": "; the scheduler there does not answer"}
    return subject.ok(f"{listen} is this machine's own{answer.get(str(occupant), '')}")
