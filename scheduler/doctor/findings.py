"""The findings of the checks: the state of one subject, and the advice."""

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
    """A finding of a check. ``advice`` is empty only when all is well.

    ``check``: the name of the check, empty until `run_checks` adds the name.
    """

    check: str
    subject: str
    status: Status
    finding: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject that a check examines, for example a target or a setting, with a method for each status."""

    name: str

    def ok(self, finding: str) -> CheckFinding:
        """Return the finding that all is well."""
        return CheckFinding("", self.name, Status.OK, finding)

    def notice(self, finding: str, advice: str) -> CheckFinding:
        """Return a finding for information."""
        return CheckFinding("", self.name, Status.NOTICE, finding, advice)

    def warning(self, finding: str, advice: str) -> CheckFinding:
        """Return a finding that needs attention."""
        return CheckFinding("", self.name, Status.WARNING, finding, advice)

    def fault(self, finding: str, advice: str) -> CheckFinding:
        """Return a finding about a defect that has to be repaired."""
        return CheckFinding("", self.name, Status.FAULT, finding, advice)


def report_silence(
    subject: Subject, program: str, process: ProcessFacts, unit: str, since: str
) -> CheckFinding:
    """Return the fault of a scheduler process that accepts connections and does not answer."""
    silence = f"{program}, process {process.id}, accepts connections and does not answer{since}"
    if process.is_stopped:
        advice = f"find out who stopped it, and let it go on: `kill -CONT {process.id}`"
        return subject.fault(f"{silence}: a signal stopped it (SIGSTOP)", advice)
    again = f"`systemctl restart {unit}`"
    if is_state_dir():
        again = f"end it (`kill {process.id}`) and start it again: `{format_daemon_command()}`"
    advice = f"{advise_log(unit)}; if it stays so, {again}"
    return subject.fault(f"{silence}: it hangs, or has too much to do", advice)


def split_advice(error: str, otherwise: str) -> tuple[str, str]:
    """Split an error message of the scheduler into the finding and the advice.

    The advice follows the last semicolon. Without a semicolon, return the whole message and ``otherwise``.
    """
    finding, _, advice = error.rpartition("; ")
    return (finding, advice) if finding else (error, otherwise)
