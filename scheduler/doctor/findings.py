"""What a check says: how it stands with one thing, and what to do about it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from scheduler.core.command_line import advise_log, format_daemon_command, is_state_dir
from scheduler.doctor.facts import ProcessFacts


class Status(StrEnum):
    """How it stands, the best first."""

    OK = "ok"
    NOTICE = "notice"  # good to know; nothing has to be done
    WARNING = "warning"  # works now, or in part; look at it
    FAULT = "fault"  # does not work, or fires wrongly


@dataclass(frozen=True, slots=True)
class CheckFinding:
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

    def ok(self, subject: str, finding: str) -> CheckFinding:
        """All is well."""
        return CheckFinding(self.name, subject, Status.OK, finding)

    def notice(self, subject: str, finding: str, advice: str) -> CheckFinding:
        """Good to know."""
        return CheckFinding(self.name, subject, Status.NOTICE, finding, advice)

    def warning(self, subject: str, finding: str, advice: str) -> CheckFinding:
        """It should be looked at."""
        return CheckFinding(self.name, subject, Status.WARNING, finding, advice)

    def fault(self, subject: str, finding: str, advice: str) -> CheckFinding:
        """It has to be mended."""
        return CheckFinding(self.name, subject, Status.FAULT, finding, advice)


def describe_silence(subject: str, process: ProcessFacts, since: str) -> str:
    """Say that a process of ours accepts connections and does not answer."""
    why = "a signal stopped it (SIGSTOP)" if process.is_stopped else "it hangs, or has too much to do"
    return f"{subject}, process {process.id}, accepts connections and does not answer{since}: {why}"


def advise_on_silence(process: ProcessFacts, unit: str) -> str:
    """Return what to do about a process of ours that does not answer."""
    if process.is_stopped:
        return f"find out who stopped it, and let it go on: `kill -CONT {process.id}`"
    again = (
        f"end it (`kill {process.id}`) and start it again: `{format_daemon_command()}`" if is_state_dir() else f"`systemctl restart {unit}`"
    )
    return f"{advise_log(unit)}; if it stays so, {again}"


def count_by_status(findings: Iterable[CheckFinding]) -> Counter[Status]:
    """How many there are of each status."""
    return Counter(each.status for each in findings)


def split_advice(error: str, otherwise: str) -> tuple[str, str]:
    """An error of ours as what is wrong and what to do, which stands at its end; ``otherwise`` when it does not say."""
    finding, _, advice = error.rpartition("; ")
    return (finding, advice) if finding else (error, otherwise)
