"""Faults between the daemon and the API: what the proxy does to some of the requests, or to all of them."""

import asyncio
import random
from abc import abstractmethod
from collections.abc import Awaitable, Callable

from tests.e2e.proxy import Cut, Lose, Request, answer, pass_on
from tests.faults.fault import Fault
from tests.faults.site import LATEST, REQUEST_TIMEOUT, Site

Forward = Callable[[], Awaitable[bytes]]

SHARES = (1.0, 0.5, 0.2)
"""Of the requests that a fault is for, how many it hits."""


class Spoiler(Fault):
    """It hits runs, reads, or both; every one of them, or a share."""

    lane = "network"

    def __init__(self, draw: random.Random) -> None:
        super().__init__(draw)
        self._share = draw.choice(SHARES)
        self._wants = draw.choice(("runs", "runs", "reads", "all"))
        self._over = asyncio.Event()

    async def begin(self, site: Site) -> None:
        async def rule(request: Request, forward: Forward) -> bytes:
            if not self._hits(request):
                return await forward()
            site.told[f"{self.name()}: requests hit"] += 1
            return await self.spoil(request, forward)

        site.proxy.rule = rule

    async def end(self, site: Site) -> None:
        site.proxy.rule = pass_on
        self._over.set()

    @abstractmethod
    async def spoil(self, request: Request, forward: Forward) -> bytes:
        """The answer to a request that it hits."""

    def _hits(self, request: Request) -> bool:
        meant = self._wants == "all" or (self._wants == "runs") == request.is_run
        return meant and self.draw.random() < self._share

    async def until_over(self, seconds: float = 60.0) -> None:
        """Wait for the end of the fault, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass


class Delay(Spoiler):
    """Requests and answers are slow, but in time."""

    async def spoil(self, request: Request, forward: Forward) -> bytes:
        del request
        await asyncio.sleep(self.draw.uniform(0.05, REQUEST_TIMEOUT * 0.4))
        answered = await forward()
        await asyncio.sleep(self.draw.uniform(0.05, REQUEST_TIMEOUT * 0.4))
        return answered


class CarriedOutLate(Spoiler):
    """The request is carried out after the client has given it up, but within `settle_time` of that."""

    async def spoil(self, request: Request, forward: Forward) -> bytes:
        del request
        await asyncio.sleep(self.draw.uniform(REQUEST_TIMEOUT, LATEST))
        return await forward()


class ResetBefore(Spoiler):
    """The connection is reset before the request has got anywhere."""

    async def spoil(self, request: Request, forward: Forward) -> bytes:
        del request, forward
        raise Lose


class LostAnswers(Spoiler):
    """The request is carried out, and then the connection is reset."""

    async def spoil(self, request: Request, forward: Forward) -> bytes:
        del request
        await forward()
        raise Lose


class HalfAnswers(Spoiler):
    """The answer breaks off: in its head, in its body, or one byte before its end."""

    async def spoil(self, request: Request, forward: Forward) -> bytes:
        del request
        answered = await forward()
        raise Cut(answered[: self.draw.choice((0, 5, self.draw.randrange(len(answered)), len(answered) - 1))])


class BlackHole(Spoiler):
    """Nothing comes back, and nothing gets there."""

    async def spoil(self, request: Request, forward: Forward) -> bytes:
        del request, forward
        await self.until_over()
        raise Lose


class SwallowedAnswers(Spoiler):
    """The request is carried out, and nothing comes back."""

    async def spoil(self, request: Request, forward: Forward) -> bytes:
        del request
        await forward()
        await self.until_over()
        raise Lose


class GatewayErrors(Spoiler):
    """Something in between answers 502, 503 or 504: before the request was carried out, or after."""

    async def spoil(self, request: Request, forward: Forward) -> bytes:
        del request
        if self.draw.random() < 0.5:
            await forward()
        return answer(self.draw.choice((502, 503, 504)), "Somewhere In Between")


class Throttle(Fault):
    """Answers trickle in."""

    lane = "network"

    async def begin(self, site: Site) -> None:
        site.proxy.bytes_per_second = self.draw.choice((300.0, 2000.0, 20000.0))

    async def end(self, site: Site) -> None:
        site.proxy.bytes_per_second = float("inf")


class Refuse(Fault):
    """Nobody listens, and the connections that were open are closed."""

    lane = "network"

    async def begin(self, site: Site) -> None:
        await site.proxy.close()

    async def end(self, site: Site) -> None:
        await site.proxy.start()


NETWORK: tuple[type[Fault], ...] = (
    *(
        Delay,
        CarriedOutLate,
        ResetBefore,
        LostAnswers,
        HalfAnswers,
        BlackHole,
        SwallowedAnswers,
        GatewayErrors,
        Throttle,
        Refuse,
    ),
)
