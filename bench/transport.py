"""What an attempt costs on each of the transports that httpx can have: the measurement by which
`scheduler.upstream` chose its own.

``python -m bench.transport`` posts to a server in a process of its own, as many requests at once as the table
says, each candidate in a process of its own, in rounds that take turns; the figures are medians. Then it
measures what open connections are worth over TLS: the time to the last of 64 answers when all 64 attempts
start on no connection, and when `ApiClient.warm` came before.

Measured on a shared machine with two cores, Python 3.11, httpx 0.28, aiohttp 3.14; trust the ratios::

                                   loop     at once requests/s  ratio cpu s / 1000  p50 ms  p99 ms
    httpx                          asyncio       64        398    1.0        2.416   105.0   678.3
    httpx                          asyncio        8       1091    2.7        0.864     5.7    15.0
    httpx                          uvloop        64        492    1.2        1.945    86.0   549.5
    httpx on httpx-aiohttp         asyncio       64       3129    7.9        0.285    20.3    28.3
    httpx on httpx-aiohttp         uvloop        64       3491    8.8        0.273    17.5    31.8
    httpx-aiohttp's transport      asyncio       64       5898   14.8        0.163    10.3    14.6
    httpx-aiohttp's transport      uvloop        64       6768   17.0        0.141     9.2    18.1
    our transport                  asyncio       64       6766   17.0        0.138     9.4    12.2
    our transport                  uvloop        64       6259   15.7        0.144    10.0    18.3
    our client, all of an attempt  asyncio       64       4271   10.7        0.218    14.7    21.7
    our client, all of an attempt  uvloop        64       4665   11.7        0.211    13.0    24.8
    aiohttp                        uvloop        64      10778   27.1        0.071     5.4     9.7

    64 attempts at once, TLS       first ms  last ms
    cold                               71.1     81.1
    warm                               11.5     17.7

All of httpx's own cost is its pool and its client layer: the same requests on aiohttp's connections, handed
to the transport without a client between, are fifteen times as many. uvloop gains nothing here.
httpx-aiohttp's transport and ours are equally fast; ours tells what was never sent from what may have been
carried out, and does not use a connection that may be closing. What "all of an attempt" adds is the bounds of
time and size, the parsing, the clock's offset and the event.
"""

import asyncio
import json
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import aiohttp
import httpx
import trustme
import uvloop
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

from bench import parts
from bench.server import Api, Connection
from scheduler.clock import SystemClock
from scheduler.core.response import AttemptResponse
from scheduler.upstream.client import ApiClient
from scheduler.upstream.tls import make_tls_context
from scheduler.upstream.transport import PooledTransport
from tests.defaults import target_config

ROUNDS: Final = 5
REQUESTS: Final = 2_048
AUTOMATION: Final = str(uuid.UUID(int=1))
HEADERS: Final = {
    "Authorization": "Bearer bench",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Idempotency-Key": "bench",
}

Send = Callable[[], Awaitable[object]]


# ---------------------------------------------------------------- the candidates


@asynccontextmanager
async def httpx_itself(url: str) -> AsyncIterator[Send]:
    async with httpx.AsyncClient(headers=HEADERS, trust_env=False) as client:
        yield lambda: client.post(url)


@asynccontextmanager
async def httpx_on_httpx_aiohttp(url: str) -> AsyncIterator[Send]:
    async with HttpxAiohttpClient(headers=HEADERS, trust_env=False) as client:
        yield lambda: client.post(url)


def handed_over(transport: httpx.AsyncBaseTransport, url: str) -> Send:
    """Requests that go to a transport without a client between; their address is parsed once."""
    address = httpx.URL(url)

    async def send() -> bytes:
        response = await transport.handle_async_request(httpx.Request("POST", address, headers=HEADERS))
        try:
            return await response.aread()
        finally:
            await response.aclose()

    return send


@asynccontextmanager
async def httpx_aiohttp_handed_over(url: str) -> AsyncIterator[Send]:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    )
    async with AiohttpTransport(client=session) as transport:
        yield handed_over(transport, url)


@asynccontextmanager
async def ours_handed_over(url: str) -> AsyncIterator[Send]:
    async with PooledTransport(tls=make_tls_context(None), connect_timeout=5) as transport:
        yield handed_over(transport, url)


@asynccontextmanager
async def our_client(url: str) -> AsyncIterator[Send]:
    """All that an attempt is: the bounds, the parsing, the clock's offset, the events."""
    async with client_of(url) as client:
        yield lambda: client.run(AUTOMATION, "bench")


@asynccontextmanager
async def aiohttp_itself(url: str) -> AsyncIterator[Send]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS) as session:

        async def send() -> bytes:
            async with session.post(url) as response:
                return await response.read()

        yield send


def client_of(url: str, ca_file: Path | None = None) -> ApiClient:
    origin = url.partition("/api/")[0]
    return ApiClient(target_config(origin, "bench", ca_file=ca_file), SystemClock())


CANDIDATES: Final = {
    "httpx": httpx_itself,
    "httpx on httpx-aiohttp": httpx_on_httpx_aiohttp,
    "httpx-aiohttp's transport": httpx_aiohttp_handed_over,
    "our transport": ours_handed_over,
    "our client, all of an attempt": our_client,
    "aiohttp": aiohttp_itself,
}
LOOPS: Final = {"asyncio": asyncio.run, "uvloop": uvloop.run}
RUNS: Final = [  # candidate, event loop, requests at once
    ("httpx", "asyncio", 64),
    ("httpx", "asyncio", 8),
    ("httpx", "uvloop", 64),
    ("httpx on httpx-aiohttp", "asyncio", 64),
    ("httpx on httpx-aiohttp", "uvloop", 64),
    ("httpx-aiohttp's transport", "asyncio", 64),
    ("httpx-aiohttp's transport", "uvloop", 64),
    ("our transport", "asyncio", 64),
    ("our transport", "uvloop", 64),
    ("our client, all of an attempt", "asyncio", 64),
    ("our client, all of an attempt", "uvloop", 64),
    ("aiohttp", "uvloop", 64),
]


async def throughput(name: str, url: str, at_once: int) -> dict[str, float]:
    """Requests a second, seconds of processor for a thousand of them, and milliseconds for one."""
    took: list[float] = []

    async def some(send: Send, count: int) -> None:
        for _ in range(count):
            began = time.perf_counter()
            await send()
            took.append(time.perf_counter() - began)

    async with CANDIDATES[name](url) as send:
        await asyncio.gather(*(some(send, 2) for _ in range(at_once)))
        took.clear()
        used, began = processor(), time.perf_counter()
        await asyncio.gather(*(some(send, REQUESTS // at_once) for _ in range(at_once)))
        seconds, used = time.perf_counter() - began, processor() - used
    took.sort()
    return {
        "rate": len(took) / seconds,
        "cpu": used * 1000 / len(took),
        "p50": parts.quantile(took, 0.5) * 1e3,
        "p99": parts.quantile(took, 0.99) * 1e3,
    }


def processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# ---------------------------------------------------------------- TLS


async def burst(url: str, ca_file: str, *, warm: bool) -> dict[str, float]:
    """Milliseconds to the first and to the last of 64 answers to attempts that start together."""
    async with client_of(url, Path(ca_file)) as client:
        if warm:
            await client.warm(64)
        began = time.perf_counter()

        async def attempt() -> float:
            assert isinstance(await client.run(AUTOMATION, "bench"), AttemptResponse)
            return (time.perf_counter() - began) * 1e3

        answered = sorted(await asyncio.gather(*(attempt() for _ in range(64))))
    return {"first": answered[0], "last": answered[-1]}


# ---------------------------------------------------------------- processes


async def serve(certificate: str | None) -> None:
    """Serve on a free port and print it."""
    tls = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    api = Api(1, "* * * * *")
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(api), "127.0.0.1", 0, backlog=1024, ssl=tls
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def served(certificate: Path | None = None) -> Iterator[str]:
    """Where an attempt is posted to, while the block lasts."""
    argv = [sys.executable, "-m", "bench.transport", "serve", *([str(certificate)] if certificate else [])]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        scheme = "https" if certificate else "http"
        try:
            port = int(server.stdout.readline())
            yield f"{scheme}://127.0.0.1:{port}/api/projects/1/task_automations/{AUTOMATION}/run/"
        finally:
            server.terminate()


def measured(*argv: str) -> dict[str, float]:
    """The figures that a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.transport", *argv], check=True, capture_output=True, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {figure: statistics.median(each[figure] for each in rounds) for figure in rounds[0]}


def compare_transports() -> None:
    found: dict[tuple[str, str, int], list[dict[str, float]]] = {run: [] for run in RUNS}
    with served() as url:
        for _ in range(ROUNDS):
            for name, loop, at_once in RUNS:
                found[name, loop, at_once].append(measured("throughput", loop, name, url, str(at_once)))
    base = medians(found[RUNS[0]])["rate"]
    print(
        f"{'':<30} {'loop':<8} {'at once':>7} {'requests/s':>10} {'ratio':>6} {'cpu s / 1000':>12} "
        f"{'p50 ms':>7} {'p99 ms':>7}"
    )
    for (name, loop, at_once), rounds in found.items():
        of = medians(rounds)
        print(
            f"{name:<30} {loop:<8} {at_once:>7} {of['rate']:>10.0f} {of['rate'] / base:>6.1f}"
            f" {of['cpu']:>12.3f} {of['p50']:>7.1f} {of['p99']:>7.1f}"
        )


def compare_bursts() -> None:
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        ca_file, certificate = Path(folder, "ca.pem"), Path(folder, "server.pem")
        authority.cert_pem.write_to_path(str(ca_file))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        with served(certificate) as url:
            kinds = ("cold", "warm")
            rounds = [
                {kind: measured("burst", "uvloop", kind, url, str(ca_file)) for kind in kinds}
                for _ in range(ROUNDS)
            ]
    print(f"{'64 attempts at once, TLS':<30} {'first ms':>8} {'last ms':>8}")
    for kind in kinds:
        of = medians([each[kind] for each in rounds])
        print(f"{kind:<30} {of['first']:>8.1f} {of['last']:>8.1f}")


def main() -> None:
    match sys.argv[1:]:
        case ["serve", *certificate]:
            uvloop.run(serve(certificate[0] if certificate else None))
        case ["throughput", loop, name, url, at_once]:
            print(json.dumps(LOOPS[loop](throughput(name, url, int(at_once)))))
        case ["burst", loop, kind, url, ca_file]:
            print(json.dumps(LOOPS[loop](burst(url, ca_file, warm=kind == "warm"))))
        case _:
            compare_transports()
            print()
            compare_bursts()


if __name__ == "__main__":
    main()
