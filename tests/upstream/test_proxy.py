"""Requests through an HTTP proxy, a small one on real sockets: what it is told, and that all it does wrong
means "not sent".
"""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from scheduler.clock import SystemClock
from scheduler.core.errors import UpstreamError
from scheduler.core.proxy import Proxy
from scheduler.core.response import AttemptResponse, MaybeStarted, NotStarted
from scheduler.upstream.client import ApiClient
from tests.fault_server import Behaviour, FaultServer, Visit, always, fault_server, response
from tests.http_proxy import http_proxy
from tests.ports import free_port
from tests.upstream.support import AUTOMATION, ID, KEY, LOOPS, Run, target

GOOD = response(200, AUTOMATION)
USER, PASSWORD = "Jörg", "s3cret:with@signs"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@pytest.fixture(autouse=True)
def _other_proxies_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies that would fail every request, and a variable that would switch off every proxy: none of them
    counts.
    """
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")


def served_by(authority: trustme.CA, host: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


def client(
    server: FaultServer | str,
    proxy: FaultServer | Proxy,
    ca_file: Path | None = None,
    *,
    connect_timeout: float = 5.0,
) -> ApiClient:
    url = server if isinstance(server, str) else server.url
    config = target(url, ca_file=ca_file, connect_timeout=connect_timeout)
    return ApiClient(
        replace(config, proxy=proxy if isinstance(proxy, Proxy) else Proxy(proxy.url)), SystemClock()
    )


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_tls_goes_through_the_proxy_which_learns_the_host_alone(
    authority: trustme.CA, ca_file: Path, run: Run
) -> None:
    async def main() -> None:
        async with (
            fault_server(always(GOOD), tls=served_by(authority)) as server,
            fault_server(http_proxy()) as proxy,
            client(server, proxy, ca_file) as api,
        ):
            for _ in range(3):
                assert isinstance(await api.run(ID, "key"), AttemptResponse)
            (asked,) = proxy.received
            assert (asked.method, asked.target) == ("CONNECT", f"127.0.0.1:{server.port}")
            assert KEY not in str(asked)
            assert "authorization" not in asked.headers
            assert len(server.received) == 3
            assert {request.headers["authorization"] for request in server.received} == {f"Bearer {KEY}"}

    run(main())


def test_without_tls_the_proxy_passes_requests_on_over_a_connection_that_is_kept() -> None:
    async def main() -> None:
        async with (
            fault_server(always(GOOD)) as server,
            fault_server(http_proxy()) as proxy,
            client(server, proxy) as api,
        ):
            for _ in range(3):
                assert isinstance(await api.run(ID, "key"), AttemptResponse)
            assert await api.retrieve(ID) is not None
            url = f"{server.url}/api/projects/1/task_automations/{ID}/"
            assert [(each.method, each.target) for each in proxy.received] == [("POST", f"{url}run/")] * 3 + [
                ("GET", url)
            ]
            assert (proxy.connections, len(server.received)) == (1, 4)

    asyncio.run(main())


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_credentials_are_for_the_proxy_alone_and_are_never_shown(
    authority: trustme.CA, ca_file: Path, tls: bool
) -> None:
    async def main() -> None:
        async with (
            fault_server(always(GOOD), tls=served_by(authority) if tls else None) as server,
            fault_server(http_proxy(USER, PASSWORD)) as proxy,
        ):
            async with client(server, Proxy(proxy.url, USER, PASSWORD), ca_file) as api:
                for _ in range(2):
                    assert isinstance(await api.run(ID, "key"), AttemptResponse)
            assert all("proxy-authorization" not in request.headers for request in server.received)
            wrong = Proxy(proxy.url, USER, "wr0ng")
            async with client(server, wrong, ca_file) as api:
                came = await api.run(ID, "key")
                with pytest.raises(UpstreamError) as raised:
                    await api.retrieve(ID)
            assert len(server.received) == 2
            words = (
                f"the proxy http://***@127.0.0.1:{proxy.port} made no connection to the API: it answered "
                "HTTP 407"
            )
            assert isinstance(came, NotStarted)
            assert came.error.startswith(words)
            assert came.error.endswith("check the user name and password in the target's proxy")
            assert f"could not be sent: {words}" in str(raised.value)
            assert not {"wr0ng", USER} & set(
                f"{came} {raised.value!r} {wrong!r} {replace(target('http://a'), proxy=wrong)!r}".split("'")
            )

    asyncio.run(main())


async def hangs_up(visit: Visit) -> None:
    await visit.request()


async def resets(visit: Visit) -> None:
    await visit.request()
    visit.reset()


async def says_nothing(visit: Visit) -> None:
    await visit.request()
    await visit.hang()


async def speaks_no_http(visit: Visit) -> None:
    await visit.request()
    await visit.send(b"220 mail.example.org ESMTP\r\n\r\n")


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (
            always(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
            "made no connection to the API: it answered HTTP 403 Forbidden",
        ),
        (http_proxy(), "made no connection to the API: it answered HTTP 502 Bad Gateway"),
        (
            always(b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\nContent-Length: 0\r\n\r\n"),
            "it answered HTTP 302 Found",
        ),
        (hangs_up, "closed the connection before it reached the API"),
        (resets, "closed the connection before it reached the API"),
        (says_nothing, "no connection within connect_timeout"),
        (speaks_no_http, "answered, but not with HTTP: "),
    ],
    ids=["forbids", "cannot reach the API", "redirects", "hangs up", "resets", "is silent", "is none"],
)
def test_whatever_a_proxy_does_before_there_is_a_connection_means_not_sent_and_names_it(
    behaviour: Behaviour, words: str, run: Run
) -> None:
    async def main() -> None:
        unused = f"https://127.0.0.1:{free_port()}"
        seconds = 0.3 if behaviour is says_nothing else 5.0
        async with fault_server(behaviour) as proxy, client(unused, proxy, connect_timeout=seconds) as api:
            for came in (await api.run(ID, "key"), await not_retrieved(api)):
                assert isinstance(came, NotStarted), came
                assert f"the proxy http://127.0.0.1:{proxy.port}" in came.error
                assert words in came.error
            assert {request.method for request in proxy.received} == {"CONNECT"}

    run(main())


async def not_retrieved(api: ApiClient) -> NotStarted | MaybeStarted:
    with pytest.raises(UpstreamError) as raised:
        await api.retrieve(ID)
    text = str(raised.value)
    return NotStarted(text) if "could not be sent" in text else MaybeStarted(text)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("127.0.0.1:{port}", "connection refused"),
        ("no-such-host.invalid:3128", "its name could not be resolved: "),
    ],
)
def test_a_proxy_that_cannot_be_reached_is_named(scheme: str, host: str, why: str) -> None:
    async def main() -> None:
        proxy = Proxy("http://" + host.format(port=free_port()), "user", "pass")
        async with (
            fault_server(always(GOOD)) as server,
            client(f"{scheme}://127.0.0.1:{server.port}", proxy) as api,
        ):
            came = await api.run(ID, "key")
            assert isinstance(came, NotStarted)
            assert came.error.startswith(f"no connection to the proxy {proxy}: {why}")
            assert server.received == []

    asyncio.run(main())


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize(
    ("host", "why"),
    [("127.0.0.1", "unable to get local issuer certificate"), ("example.org", "IP address mismatch")],
)
def test_certificates_are_verified_through_the_proxy_too(
    authority: trustme.CA, ca_file: Path, host: str, why: str, run: Run
) -> None:
    async def main() -> None:
        async with (
            fault_server(always(GOOD), tls=served_by(authority, host)) as server,
            fault_server(http_proxy()) as proxy,
            client(server, proxy, ca_file if host == "example.org" else None) as api,
        ):
            came = await api.run(ID, "key")
            assert isinstance(came, NotStarted)
            assert came.error.startswith(
                f"through the proxy {proxy.url}: its TLS certificate is not trusted: "
            )
            assert why in came.error
            assert server.received == []

    run(main())


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_warm_connections_through_the_proxy_are_used_by_attempts(
    authority: trustme.CA, ca_file: Path, tls: bool
) -> None:
    async def main() -> None:
        async with (
            fault_server(always(GOOD), tls=served_by(authority) if tls else None) as server,
            fault_server(http_proxy(USER, PASSWORD)) as proxy,
            client(server, Proxy(proxy.url, USER, PASSWORD), ca_file) as api,
        ):
            await api.warm(3)
            came = await asyncio.gather(*(api.run(ID, "key") for _ in range(3)))
            assert all(isinstance(each, AttemptResponse) for each in came)
            assert proxy.connections == 3

    asyncio.run(main())


def test_a_connection_that_replaces_one_that_was_not_silent_is_kept_too(
    authority: trustme.CA, ca_file: Path
) -> None:
    async def speaks_unasked_at_first(visit: Visit) -> None:
        while await visit.request():
            await visit.send(GOOD)
            if visit.number == 1:
                await asyncio.sleep(0.02)
                await visit.send(b"noise")

    async def main() -> None:
        async with (
            fault_server(speaks_unasked_at_first, tls=served_by(authority)) as server,
            fault_server(http_proxy()) as proxy,
            client(server, proxy, ca_file) as api,
        ):
            await api.run(ID, "key")
            await asyncio.sleep(0.1)  # nothing tells that the stray bytes have come
            for _ in range(3):
                assert isinstance(await api.run(ID, "key"), AttemptResponse)
            assert proxy.connections == 2

    asyncio.run(main())
