"""What a check says: how it stands with one thing, and what to do about it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How it stands, the best first."""

    OK = "ok"
    NOTICE = "notice"  # good to know; nothing has to be done
    WARNING = "warning"  # works now, or in part; look at it
    FAULT = "fault"  # does not work, or fires wrongly


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``advice`` is empty only when all is well."""

    check: str
    subject: str
    status: Status
    finding: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """The name under which a check speaks."""

    name: str

    def ok(self, subject: str, finding: str) -> Finding:
        """All is well."""
        return Finding(self.name, subject, Status.OK, finding)

    def notice(self, subject: str, finding: str, advice: str) -> Finding:
        """Good to know."""
        return Finding(self.name, subject, Status.NOTICE, finding, advice)

    def warning(self, subject: str, finding: str, advice: str) -> Finding:
        """It should be looked at."""
        return Finding(self.name, subject, Status.WARNING, finding, advice)

    def fault(self, subject: str, finding: str, advice: str) -> Finding:
        """It has to be mended."""
        return Finding(self.name, subject, Status.FAULT, finding, advice)


def counted(findings: Iterable[Finding]) -> Counter[Status]:
    """How many there are of each status."""
    return Counter(each.status for each in findings)


def parted(error: str, otherwise: str) -> tuple[str, str]:
    """An error of ours as what is wrong and what to do, which stands at its end; ``otherwise`` when it does not say."""
    finding, _, advice = error.rpartition("; ")
    return (finding, advice) if finding else (error, otherwise)
