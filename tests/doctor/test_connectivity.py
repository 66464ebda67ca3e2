"""The way to an API, on real sockets with real certificates: the step that fails is the one that is told."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from scheduler.core.proxy import Proxy
from scheduler.doctor.facts import Connectivity
from scheduler.doctor.probes.connectivity import probe_connectivity
from tests.fault_server import Behaviour, Received, Visit, always, fault_server
from tests.http_proxy import http_proxy
from tests.ports import free_port

EXPIRY = datetime(2030, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="The Authority")


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@pytest.fixture(autouse=True)
def _no_trust_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


async def quiet(visit: Visit) -> None:
    """Hear, and say nothing."""
    await visit.request()


def certified(authority: trustme.CA, host: str = "127.0.0.1", not_after: datetime = EXPIRY) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, not_after=not_after).configure_cert(context)
    return context


async def walked(tls: ssl.SSLContext | None, ca_file: Path | None, *, https: bool = True) -> Connectivity:
    async with fault_server(quiet, tls=tls) as server:
        way = await probe_connectivity(server.https_url if https else server.url, ca_file, seconds=5)
        assert server.received == []
        return way


def test_a_way_without_obstacles_shows_the_certificate(authority: trustme.CA, ca_file: Path) -> None:
    way = asyncio.run(walked(certified(authority), ca_file))
    assert (way.broken, way.addresses, way.tls) == (None, ("127.0.0.1",), True)
    assert (way.expires, way.issuer) == (EXPIRY, "The Authority")


def test_a_way_without_tls_ends_with_the_connection() -> None:
    way = asyncio.run(walked(None, None, https=False))
    assert (way.broken, way.tls, way.expires) == (None, False, None)


@pytest.mark.parametrize(
    ("host", "not_after", "code"),
    [("example.org", EXPIRY, 64), ("127.0.0.1", datetime(2020, 1, 1, tzinfo=UTC), 10)],
)
def test_why_a_certificate_is_not_trusted_is_told(
    authority: trustme.CA, ca_file: Path, host: str, not_after: datetime, code: int
) -> None:
    way = asyncio.run(walked(certified(authority, host, not_after), ca_file))
    assert (way.broken, way.verify_code) == ("tls", code)


def test_an_unknown_authority_is_told(authority: trustme.CA) -> None:
    way = asyncio.run(walked(certified(authority), None))
    assert (way.broken, way.verify_code) == ("tls", 20)


def test_a_server_without_tls_is_told_from_one_that_is_not_trusted() -> None:
    async def main() -> Connectivity:
        async def speak_first(visit: Visit) -> None:
            await visit.send(b"220 here is another protocol\r\n")
            await visit.hang()

        async with fault_server(speak_first) as server:
            return await probe_connectivity(server.https_url, None, seconds=5)

    way = asyncio.run(main())
    assert (way.broken, way.verify_code) == ("tls", None)
    assert "does not speak TLS" in way.error


def test_a_ca_file_that_is_not_there_is_told(authority: trustme.CA, tmp_path: Path) -> None:
    way = asyncio.run(walked(certified(authority), tmp_path / "missing.pem"))
    assert way.broken == "tls"
    assert "cannot be read" in way.error


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    async def main() -> Connectivity:
        async with fault_server(Visit.hang) as server:
            return await probe_connectivity(server.https_url, None, seconds=0.2)

    way = asyncio.run(main())
    assert (way.broken, way.error) == ("tls", "nothing came within 0.2 s")


def test_nobody_there() -> None:
    way = asyncio.run(probe_connectivity(f"http://127.0.0.1:{free_port()}", None, seconds=5))
    assert (way.broken, way.error) == ("connection", "connection refused")


def test_a_name_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    way = asyncio.run(probe_connectivity("https://no-such-host.invalid", None, seconds=5))
    assert (way.broken, way.error) == ("name", "name or service not known")


async def walked_by(
    proxy: Behaviour, tls: ssl.SSLContext, ca_file: Path, user: str = "", password: str = ""
) -> tuple[Connectivity, list[Received]]:
    async with fault_server(quiet, tls=tls) as server, fault_server(proxy) as between:
        way = await probe_connectivity(
            server.https_url, ca_file, Proxy(between.url, user, password), seconds=5
        )
        assert server.received == []
        return way, between.received


def test_a_proxy_is_asked_for_a_connection_and_certificates_are_seen_through_it(
    authority: trustme.CA, ca_file: Path
) -> None:
    way, asked = asyncio.run(
        walked_by(http_proxy("me", "s3cret"), certified(authority), ca_file, "me", "s3cret")
    )
    assert (way.broken, way.issuer) == (None, "The Authority")
    assert [(each.method, each.headers["host"]) for each in asked] == [("CONNECT", asked[0].target)]
    assert "s3cret" not in repr(way)


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (http_proxy("me", "s3cret"), "it answered HTTP 407"),
        (always(b"220 mail.example.org\r\n\r\n"), "it does not speak HTTP"),
        (quiet, "it hung up, or does not speak HTTP"),
        (always(b"x" * 100_000), "it hung up, or does not speak HTTP"),
    ],
    ids=["asks who is there", "is none", "hangs up", "never comes to an end"],
)
def test_a_proxy_that_makes_no_connection_is_told(
    authority: trustme.CA, ca_file: Path, behaviour: Behaviour, error: str
) -> None:
    way, _ = asyncio.run(walked_by(behaviour, certified(authority), ca_file))
    assert (way.broken, way.error) == ("proxy", error)


@pytest.mark.parametrize(("host", "broken"), [("127.0.0.1", "connection"), ("no-such-host.invalid", "name")])
def test_a_proxy_that_cannot_be_reached_is_told(host: str, broken: str) -> None:
    way = asyncio.run(
        probe_connectivity("https://127.0.0.1:1", None, Proxy(f"http://{host}:{free_port()}"), seconds=5)
    )
    assert (way.broken, way.host) == (broken, "127.0.0.1")
