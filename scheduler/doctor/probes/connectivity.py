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
    link = Connectivity(
        host=parts.hostname or "", port=parts.port or (443 if tls else 80), tls=tls, proxy=str(proxy or "")
    )
    first = urlsplit(proxy.url) if proxy else None
    host, port = (first.hostname or "", first.port or 80) if first else (link.host, link.port)
    link = await _resolve(link, host, port, seconds)
    if link.broken:
        return link
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:  # TimeoutError is a subclass
        return replace(link, broken="connection", error=_describe_error(error, seconds))
    try:
        if proxy and tls:
            link = await _connect_through(proxy, link, reader, writer, seconds)
        return await _start_tls(link, writer, ca_file, seconds) if tls and not link.broken else link
    finally:
        writer.transport.abort()


async def _resolve(link: Connectivity, host: str, port: int, seconds: float) -> Connectivity:
    try:
        async with asyncio.timeout(seconds):
            infos = await run_abandonable(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        return replace(link, broken="name", error=_describe_error(error, seconds))
    return replace(link, addresses=tuple(sorted({str(info[4][0]) for info in infos})))


async def _connect_through(
    proxy: Proxy,
    link: Connectivity,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    seconds: float,
) -> Connectivity:
    """Ask the proxy for a connection to the API."""
    api = f"[{link.host}]:{link.port}" if ":" in link.host else f"{link.host}:{link.port}"
    lines = [f"CONNECT {api} HTTP/1.1", f"Host: {api}"]
    if proxy.has_credentials:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        async with asyncio.timeout(seconds):
            writer.write("\r\n".join([*lines, "", ""]).encode())
            head = await reader.readuntil(b"\r\n\r\n")
    except OSError as error:
        return replace(link, broken="proxy", error=_describe_error(error, seconds))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return replace(link, broken="proxy", error="it hung up, or does not speak HTTP")
    status = re.match(rb"HTTP/1\.[01] ([1-5][0-9]{2})\b", head)
    if status is None:
        return replace(link, broken="proxy", error="it does not speak HTTP")
    if int(status[1]) != HTTPStatus.OK:
        return replace(link, broken="proxy", error=f"it answered HTTP {status[1].decode()}")
    return link


async def _start_tls(
    link: Connectivity, writer: asyncio.StreamWriter, ca_file: Path | None, seconds: float
) -> Connectivity:
    try:
        async with asyncio.timeout(seconds):
            await writer.start_tls(make_tls_context(ca_file), server_hostname=link.host)
    except ssl.SSLCertVerificationError as error:
        return replace(link, broken="tls", error=error.verify_message, verify_code=error.verify_code)
    except (OSError, ConfigurationError) as error:
        return replace(link, broken="tls", error=_describe_error(error, seconds))
    certificate: Mapping[str, Any] = writer.transport.get_extra_info("peercert") or {}
    expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    return replace(link, expires=expires, issuer=_find_issuer(certificate))


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
