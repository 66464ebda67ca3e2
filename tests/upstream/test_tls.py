"""Whom the client trusts, with real handshakes. Everything that is not trusted means: not sent."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from scheduler.core.errors import ConfigurationError
from scheduler.core.response import AttemptResponse, MaybeStarted, NotStarted
from scheduler.upstream.tls import make_tls_context
from tests.fault_server import always, fault_server, response
from tests.upstream.support import AUTOMATION, ID, LOOPS, Run, client

GOOD = response(200, AUTOMATION)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@pytest.fixture(autouse=True)
def _no_trust_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


def served_by(
    authority: trustme.CA, host: str = "127.0.0.1", not_after: datetime | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, not_after=not_after).configure_cert(context)
    return context


async def attempt(tls: ssl.SSLContext, ca_file: Path | None) -> AttemptResponse | NotStarted | MaybeStarted:
    async with fault_server(always(GOOD), tls=tls) as server, client(server, ca_file=ca_file) as api:
        came = await api.run(ID, "key")
        assert len(server.received) == isinstance(came, AttemptResponse)
        return came


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_a_private_authority_is_accepted_when_it_is_in_the_ca_file(
    authority: trustme.CA, ca_file: Path, run: Run
) -> None:
    assert isinstance(run(attempt(served_by(authority), ca_file)), AttemptResponse)


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_an_unknown_authority_is_refused(authority: trustme.CA, run: Run) -> None:
    came = run(attempt(served_by(authority), None))
    assert came == NotStarted("its TLS certificate is not trusted: unable to get local issuer certificate")


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_another_hosts_certificate_is_refused(authority: trustme.CA, ca_file: Path, run: Run) -> None:
    came = run(attempt(served_by(authority, "example.org"), ca_file))
    assert isinstance(came, NotStarted)
    assert "IP address mismatch" in came.error


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_an_expired_certificate_is_refused(authority: trustme.CA, ca_file: Path, run: Run) -> None:
    came = run(attempt(served_by(authority, not_after=datetime(2020, 1, 1, tzinfo=UTC)), ca_file))
    assert came == NotStarted("its TLS certificate is not trusted: certificate has expired")


def test_the_ca_file_stands_instead_of_the_systems_authorities(
    authority: trustme.CA, ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    assert isinstance(asyncio.run(attempt(served_by(authority), other)), NotStarted)


def test_ssl_cert_file_moves_the_systems_authorities(
    authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    assert isinstance(asyncio.run(attempt(served_by(authority), None)), AttemptResponse)


def test_verification_is_on_and_old_versions_are_off() -> None:
    context = make_tls_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_warm_tls_connections_are_used_by_attempts(authority: trustme.CA, ca_file: Path) -> None:
    async def main() -> None:
        async with (
            fault_server(always(GOOD), tls=served_by(authority)) as server,
            client(server, ca_file=ca_file) as api,
        ):
            await api.warm(3)
            await asyncio.gather(*(api.run(ID, "key") for _ in range(3)))
            assert server.connections == 3

    asyncio.run(main())


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read: No such file or directory"), (b"no certificate", "holds no certificate")],
    ids=["missing", "garbage"],
)
def test_a_ca_file_that_cannot_be_used_is_a_configuration_error(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as raised:
        make_tls_context(path)
    assert str(path) in str(raised.value)
