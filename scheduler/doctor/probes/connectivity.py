"""The connection to an API, step by step: name, connection, TLS. Sends no request and no key.

With a proxy, the steps name and connection concern the proxy. The proxy is then asked for a connection to the
API (CONNECT; RFC 9110, section 9.3.6).

This module is separate from the API client. For the client, all these failures are the same: the request was
not sent. This module distinguishes the failures, because the advice differs. The trusted certificates are the
client's.
"""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scheduler.core.errors import ConfigurationError
from scheduler.core.proxy import Proxy
from scheduler.doctor.facts import Connectivity
from scheduler.doctor.probes.time_limit import run_abandonable
from scheduler.upstream.tls import make_tls_context


async def probe_connectivity(
    url: str, ca_file: Path | None, proxy: Proxy | None = None, *, seconds: float
) -> Connectivity:
    """Connect to an API step by step, up to the first failure. ``seconds`` is the time limit of each step."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    way = Connectivity(
        host=parts.hostname or "", port=parts.port or (443 if tls else 80), tls=tls, proxy=str(proxy or "")
    )
    first = urlsplit(proxy.url) if proxy else None
    host, port = (first.hostname or "", first.port or 80) if first else (way.host, way.port)
    way = await _resolve(way, host, port, seconds)
    if way.broken:
        return way
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:  # TimeoutError is a subclass
        return replace(way, broken="connection", error=_describe_error(error, seconds))
    try:
        if proxy and tls:
            way = await _connect_through(proxy, way, reader, writer, seconds)
        return await _start_tls(way, writer, ca_file, seconds) if tls and not way.broken else way
    finally:
        writer.transport.abort()


async def _resolve(way: Connectivity, host: str, port: int, seconds: float) -> Connectivity:
    try:
        async with asyncio.timeout(seconds):
            found = await run_abandonable(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        return replace(way, broken="name", error=_describe_error(error, seconds))
    return replace(way, addresses=tuple(sorted({str(each[4][0]) for each in found})))


async def _connect_through(
    proxy: Proxy,
    way: Connectivity,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    seconds: float,
) -> Connectivity:
    """Ask the proxy for a connection to the API."""
    api = f"[{way.host}]:{way.port}" if ":" in way.host else f"{way.host}:{way.port}"
    lines = [f"CONNECT {api} HTTP/1.1", f"Host: {api}"]
    if proxy.has_credentials:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        async with asyncio.timeout(seconds):
            writer.write("\r\n".join([*lines, "", ""]).encode())
            head = await reader.readuntil(b"\r\n\r\n")
    except OSError as error:
        return replace(way, broken="proxy", error=_describe_error(error, seconds))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return replace(way, broken="proxy", error="it hung up, or does not speak HTTP")
    status = re.match(rb"HTTP/1\.[01] ([1-5][0-9]{2})\b", head)
    if status is None:
        return replace(way, broken="proxy", error="it does not speak HTTP")
    if int(status[1]) != HTTPStatus.OK:
        return replace(way, broken="proxy", error=f"it answered HTTP {status[1].decode()}")
    return way


async def _start_tls(
    way: Connectivity, writer: asyncio.StreamWriter, ca_file: Path | None, seconds: float
) -> Connectivity:
    try:
        async with asyncio.timeout(seconds):
            await writer.start_tls(make_tls_context(ca_file), server_hostname=way.host)
    except ssl.SSLCertVerificationError as error:
        return replace(way, broken="tls", error=error.verify_message, verify_code=error.verify_code)
    except (OSError, ConfigurationError) as error:
        return replace(way, broken="tls", error=_describe_error(error, seconds))
    certificate: Mapping[str, Any] = writer.transport.get_extra_info("peercert") or {}
    expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    return replace(way, expires=expires, issuer=_find_issuer(certificate))


def _find_issuer(certificate: Mapping[str, Any]) -> str:
    names = dict(pair for group in certificate.get("issuer", ()) for pair in group)
    return str(names.get("organizationName") or names.get("commonName") or "an unnamed authority")


def _describe_error(error: Exception, seconds: float) -> str:
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
