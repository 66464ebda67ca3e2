"""What a fault is: something that begins, lasts, ends, and says beforehand what it may cost."""

import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from tests.faults.site import Site

Lane = Literal["network", "process", "storage", "clock"]
"""Faults of one lane come one after the other; those of different lanes at the same time."""


class Fault(ABC):
    """One fault on one site. What it may cost and did not is no violation; what it cost beyond that is
    one.
    """

    lane: ClassVar[Lane]
    errors: ClassVar[frozenset[str]] = frozenset()
    """Events that may be logged at level error while it lasts and soon after."""
    outcomes: ClassVar[frozenset[str]] = frozenset()
    """Outcomes, as ``outcome: reason``, that an occurrence may get through it and not otherwise."""
    lasts: ClassVar[tuple[float, float]] = (2.0, 15.0)
    """Seconds, at least and at most."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.seconds = draw.uniform(*self.lasts)

    @classmethod
    def name(cls) -> str:
        """As it is named at the command line and in the summary: ``LostAnswers`` is ``lost-answers``."""
        return "".join(
            f"-{letter.lower()}" if letter.isupper() else letter for letter in cls.__name__
        ).lstrip("-")

    @classmethod
    def lacks(cls, site: "Site") -> str | None:
        """What is missing on this machine for it to be had, and how to get it; None: nothing."""
        del site
        return None

    @abstractmethod
    async def begin(self, site: "Site") -> None:
        """Make it so. May take as long as it needs, and raise `Violation`."""

    @abstractmethod
    async def end(self, site: "Site") -> None:
        """Take it away. What follows must recover by itself."""


class Violation(AssertionError):
    """Something that must never happen, whatever the fault."""
