"""The findings of the checks: the state of one subject, and the advice."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from scheduler.core.command_line import advise_log, format_daemon_command, is_state_dir
from scheduler.doctor.facts import ProcessFacts


class Status(StrEnum):
    """The status of a finding, from best to worst."""

    OK = "ok"
    NOTICE = "notice"  # information; no action is needed
    WARNING = "warning"  # works now, or in part; needs attention
    FAULT = "fault"  # does not work, or fires wrongly


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """A finding of a check. ``advice`` is empty only when all is well."""

    check: str
    subject: str
    status: Status
    finding: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """The name of a check. The check makes its findings by `about`."""

    name: str

    def about(self, subject: str) -> "CheckSubject":
        """Return a subject, for example a target or a setting, for findings about the subject."""
        return CheckSubject(self.name, subject)


@dataclass(frozen=True, slots=True)
class CheckSubject:
    """A subject that a check examines, with a method for each status that makes a finding."""

    check: str
    subject: str

    def ok(self, finding: str) -> CheckFinding:
        """Return the finding that all is well."""
        return CheckFinding(self.check, self.subject, Status.OK, finding)

    def notice(self, finding: str, advice: str) -> CheckFinding:
        """Return a finding for information."""
        return CheckFinding(self.check, self.subject, Status.NOTICE, finding, advice)

    def warning(self, finding: str, advice: str) -> CheckFinding:
        """Return a finding that needs attention."""
        return CheckFinding(self.check, self.subject, Status.WARNING, finding, advice)

    def fault(self, finding: str, advice: str) -> CheckFinding:
        """Return a finding about a defect that has to be repaired."""
        return CheckFinding(self.check, self.subject, Status.FAULT, finding, advice)


def describe_silence(subject: str, process: ProcessFacts, since: str) -> str:
    """Describe a scheduler process that accepts connections and does not answer."""
    why = "a signal stopped it (SIGSTOP)" if process.is_stopped else "it hangs, or has too much to do"
    return f"{subject}, process {process.id}, accepts connections and does not answer{since}: {why}"


def advise_on_silence(process: ProcessFacts, unit: str) -> str:
    """Return the advice for a scheduler process that does not answer."""
    if process.is_stopped:
        return f"find out who stopped it, and let it go on: `kill -CONT {process.id}`"
    again = (
        f"end it (`kill {process.id}`) and start it again: `{format_daemon_command()}`"
        if is_state_dir()
        else f"`systemctl restart {unit}`"
    )
    return f"{advise_log(unit)}; if it stays so, {again}"


def count_by_status(findings: Iterable[CheckFinding]) -> Counter[Status]:
    """Count the findings by status."""
    return Counter(finding.status for finding in findings)


def split_advice(error: str, otherwise: str) -> tuple[str, str]:
    """Split an error message of the scheduler into the finding and the advice.

    The advice follows the last semicolon. Without a semicolon, return the whole message and ``otherwise``.
    """
    finding, _, advice = error.rpartition("; ")
    return (finding, advice) if finding else (error, otherwise)
