"""The reachability of the API: its name, a connection, TLS, the list of automations.

The finding names the first failed step, with advice.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from scheduler.core.instants import to_text_seconds
from scheduler.doctor.facts import (
    PROXY_VARIABLES,
    TRUST_VARIABLES,
    ApiFacts,
    Connectivity,
    Facts,
    Refusal,
    TargetFacts,
    UnknownFact,
)
from scheduler.doctor.findings import CheckFinding, Subject, split_advice
from scheduler.settings.addresses import is_loopback
from scheduler.settings.models import TargetSection

_SOON: Final = timedelta(days=14)
_UNKNOWN_AUTHORITY: Final = (2, 20, 21)
_SELF_SIGNED: Final = (18, 19)
_TLS_ADVICE: Final[Mapping[int, str]] = {  # OpenSSL's codes of untrusted certificates (openssl/x509_vfy.h)
    9: "check this machine's clock; if the clock is right, the API needs a new certificate",
    10: "renew the API's certificate; check this machine's clock, too",
    **dict.fromkeys(
        _SELF_SIGNED, "if it is the right one, set ca_file on the target to a file that holds it"
    ),
    **dict.fromkeys(
        _UNKNOWN_AUTHORITY,
        "for a private CA set ca_file on the target; for a public one install ca-certificates",
    ),
    **dict.fromkeys((62, 64), "write the host in the target's url as the certificate has it"),
}
_SLOW_SHARE: Final = 0.5
"""The share of ``request_timeout`` above which the list counts as slow."""


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the connection to every target."""
    environment = Subject("environment")
    for name in (name for name in TRUST_VARIABLES if name in facts.environment):
        finding = f"{name} has certificates trusted from {facts.environment[name]}"
        advice = "check that the daemon has it too, or set ca_file on the target that needs it"
        yield environment.notice(finding, advice)
    proxies = [name for name in PROXY_VARIABLES if name in facts.environment]
    if proxies and not all(target.settings.proxy for target in facts.targets):
        finding = f"{', '.join(proxies)} has no effect here: requests go directly"
        yield environment.notice(finding, "set proxy for each target behind a proxy")
    for target in facts.targets:
        yield from _check_target(facts, target, proxied=bool(proxies))


def _check_target(facts: Facts, target: TargetFacts, *, proxied: bool) -> Iterator[CheckFinding]:
    subject, link = Subject(f"target {target.settings.name}"), target.connectivity
    if isinstance(link, UnknownFact):
        finding = f"the connection could not be examined: {link.reason}"
        yield subject.fault(finding, "try again; check the network of this machine")
    elif link.broken:
        yield subject.fault(*_describe_failure(target, link, proxied=proxied))
    else:
        yield from _check_tls(facts, subject, link)
        yield _check_answer(subject, target.settings, link, target.api)


def _describe_failure(target: TargetFacts, link: Connectivity, *, proxied: bool) -> tuple[str, str]:
    if link.proxy and link.broken != "tls":
        return _describe_proxy_failure(link)
    if link.broken == "name":
        advice = "correct the target's url, or repair this machine's name service"
        return f"the name {link.host} cannot be resolved: {link.error}", advice
    if link.broken == "connection":
        advice = f"check that the API runs and that no firewall blocks this machine from port {link.port}"
        advice += "; a proxy of the environment is not used, only the target's proxy" if proxied else ""
        at = "" if link.addresses == (link.host,) else f" ({', '.join(link.addresses)})"
        return f"no connection to {link.host} port {link.port}{at}: {link.error}", advice
    through = f" through the proxy {link.proxy}" if link.proxy else ""
    return f"TLS to {link.host}{through} failed: {link.error}", _advise_tls(target, link)


def _describe_proxy_failure(link: Connectivity) -> tuple[str, str]:
    if link.broken == "name":
        host = urlsplit(link.proxy).hostname
        return f"the name {host} of its proxy cannot be resolved: {link.error}", "correct the target's proxy"
    if link.broken == "connection":
        advice = "check that the proxy runs, or correct the target's proxy"
        return f"no connection to its proxy {link.proxy}: {link.error}", advice
    allow = f"have the proxy allow CONNECT to {link.host}:{link.port}"
    advice = f"{allow}; its user name and password are in the target's proxy"
    return f"its proxy {link.proxy} made no connection to {link.host} port {link.port}: {link.error}", advice


def _advise_tls(target: TargetFacts, link: Connectivity) -> str:
    ca_file, check_port = target.settings.ca_file, f"check that the API speaks TLS on port {link.port}"
    if link.proxy and link.verify_code in {*_UNKNOWN_AUTHORITY, *_SELF_SIGNED}:
        file = "a file with the authority of the proxy"
        return f"if the proxy reads the traffic, set ca_file on the target to {file}"
    if link.verify_code in _UNKNOWN_AUTHORITY and ca_file:
        return f"add the authority that signed it to {ca_file}"
    if link.verify_code is None and ca_file:
        return f"{check_port}, and that {ca_file} holds certificates in PEM form"
    return _TLS_ADVICE.get(link.verify_code or 0, f"{check_port}, or write http:// if it does not")


def _check_tls(facts: Facts, subject: Subject, link: Connectivity) -> Iterator[CheckFinding]:
    if not link.tls and (link.proxy or not is_loopback(link.host)):  # a proxy is not this machine
        finding = f"the key is sent to {link.host} without TLS: anybody on the network path can read it"
        yield subject.warning(finding, "write https:// in the target's url")
    if link.expires is not None and link.expires - facts.now < _SOON:
        ends = f"ends at {to_text_seconds(link.expires)}"
        finding = f"the certificate of {link.host}, by {link.issuer}, {ends}"
        yield subject.warning(finding, "renew it before that: nothing is sent after it")


def _check_answer(
    subject: Subject, target: TargetSection, link: Connectivity, api: ApiFacts | UnknownFact
) -> CheckFinding:
    if isinstance(api, UnknownFact):
        finding = f"{_describe_endpoint(link)} accepts connections; the API was not asked: {api.reason}"
        return subject.notice(finding, "correct this first")
    if api.refusal is not None:
        return subject.fault(*_describe_refusal(target, api.refusal))
    allowed = target.request_timeout.total_seconds()
    if api.slowest_seconds > allowed * _SLOW_SHARE:
        finding = f"the list of automations took {api.slowest_seconds:.1f} s of the {allowed:g} s allowed"
        return subject.warning(finding, "find out why the API is slow, or raise request_timeout")
    return subject.ok(f"the list of automations came in {api.slowest_seconds * 1000:.0f} ms")


def _describe_endpoint(link: Connectivity) -> str:
    """Describe the endpoint of the connection.

    With a proxy and without TLS, the endpoint is the proxy alone: each request asks the proxy for a
    connection.
    """
    return f"its proxy {link.proxy}" if link.proxy and not link.tls else f"{link.host} port {link.port}"


def _describe_refusal(target: TargetSection, refusal: Refusal) -> tuple[str, str]:
    if refusal.status == HTTPStatus.TOO_MANY_REQUESTS:
        limit = "another client uses up the key's limit"
        lower = "lower requests_per_minute and poll_interval"
        return refusal.text, f"{limit}: give this target a key of its own, or {lower}"
    finding, advice = refusal.text, "check the API, and try again"
    if refusal.held or refusal.status is None:  # no status: the scheduler's own words, with advice
        finding, advice = split_advice(finding, advice)
    if refusal.status == HTTPStatus.NOT_FOUND and urlsplit(target.url).path:
        advice = f"{advice}: most APIs have no path, and url has one"
    return finding, advice
