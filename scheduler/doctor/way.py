"""The way to an API, one step after the other: its name, a connection, TLS. Sends no request and no key.

Apart from the client, to which all three are the same: not sent. Here they are told apart, since what to do differs. The certificates that
are trusted are the client's.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scheduler.core.errors import ConfigurationError
from scheduler.doctor.apart import apart
from scheduler.doctor.facts import Way
from scheduler.upstream.tls import trust


async def walk(url: str, ca_file: Path | None, *, seconds: float) -> Way:
    """How far one gets. ``seconds`` is how long each step may take."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    way = Way(host=parts.hostname or "", port=parts.port or (443 if tls else 80), tls=tls)
    way = await _resolved(way, seconds)
    if way.broken:
        return way
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(way.host, way.port)
    except OSError as error:  # TimeoutError is one
        return replace(way, broken="connection", error=_words(error, seconds))
    try:
        return await _secured(way, writer, ca_file, seconds) if tls else way
    finally:
        writer.transport.abort()


async def _resolved(way: Way, seconds: float) -> Way:
    try:
        async with asyncio.timeout(seconds):
            found = await apart(lambda: socket.getaddrinfo(way.host, way.port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        return replace(way, broken="name", error=_words(error, seconds))
    return replace(way, addresses=tuple(sorted({str(each[4][0]) for each in found})))


async def _secured(way: Way, writer: asyncio.StreamWriter, ca_file: Path | None, seconds: float) -> Way:
    try:
        async with asyncio.timeout(seconds):
            await writer.start_tls(trust(ca_file), server_hostname=way.host)
    except ssl.SSLCertVerificationError as error:
        return replace(way, broken="tls", error=error.verify_message, verify_code=error.verify_code)
    except (OSError, ConfigurationError) as error:
        return replace(way, broken="tls", error=_words(error, seconds))
    certificate: Mapping[str, Any] = writer.transport.get_extra_info("peercert") or {}
    expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    return replace(way, expires=expires, issuer=_issuer(certificate))


def _issuer(certificate: Mapping[str, Any]) -> str:
    names = dict(pair for group in certificate.get("issuer", ()) for pair in group)
    return str(names.get("organizationName") or names.get("commonName") or "an unnamed authority")


def _words(error: Exception, seconds: float) -> str:
    match error:
        case TimeoutError():
            return f"nothing came within {seconds:g} s"
        case ssl.SSLError():
            return f"the other side does not speak TLS as we do ({error.reason or error})"
        case socket.gaierror():
            return (error.strerror or str(error)).lower()
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
        case _:
            return str(error)
