"""The ledger: its integrity, its owner, the space on its disk, and its targets against the configuration."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from scheduler.core.command_line import format_command
from scheduler.database.files import SIDE_FILE_SUFFIXES
from scheduler.doctor.checks.disks import FULL, MIB, TIGHT, check_filesystem, format_bytes
from scheduler.doctor.facts import Facts, FileFacts, LedgerFacts, UnknownFact
from scheduler.doctor.findings import Check, CheckFinding, split_advice
from scheduler.ledger.schema import APPLICATION_ID, MIGRATIONS
from scheduler.ledger.summary import LedgerRecord
from scheduler.ledger.targets import LedgerTarget, normalize_url
from scheduler.settings import TargetSection

LEDGER: Final = Check("ledger")
_NEWEST_VERSION: Final = len(MIGRATIONS)
_WEEK: Final = 7
_OTHERS_WRITE: Final = 0o022


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the ledger."""
    if facts.configuration is None:
        return  # the examined ledger may not be the configured ledger
    ledger = facts.ledger
    if isinstance(ledger, UnknownFact):
        path = str(facts.settings.ledger.url.path)
        yield LEDGER.about(path).fault(
            f"it could not be examined: {ledger.reason}", "check its disk, and read the system log"
        )
        return
    subject = str(ledger.path)
    if ledger.error is not None:
        error = ledger.error.removeprefix(f"{subject}: ")
        yield LEDGER.about(subject).fault(
            *split_advice(error, "restore a backup, or name another file in [ledger] url")
        )
    elif ledger.file is None or not ledger.file.size:
        yield _report_absent(subject, ledger, facts)
    else:
        yield from _check_content(subject, ledger)
        yield from _check_owners(ledger)
    if ledger.folder is not None:
        yield from _check_disk(facts, subject, ledger)
    yield from _check_lock(subject, ledger)
    yield from _check_bindings(facts)


def _report_absent(subject: str, ledger: LedgerFacts, facts: Facts) -> CheckFinding:
    if not isinstance(facts.daemon, UnknownFact):
        return LEDGER.about(subject).fault(
            "it does not exist, but a daemon runs: the daemon has another ledger",
            "name the daemon's ledger in [ledger] url",
        )
    if ledger.folder is None:
        return LEDGER.about(subject).fault(
            "neither the ledger nor its folder exists",
            f"make {ledger.path.parent} for the daemon's user, or correct [ledger] url",
        )
    if not ledger.writable:
        return LEDGER.about(subject).fault(
            f"it is not there, and {ledger.folder.owner} may not write in its folder",
            f"chmod u+w {ledger.path.parent}",
        )
    return LEDGER.about(subject).notice(
        "it is not there yet, or empty: nothing has been recorded",
        "nothing: the daemon makes it when it starts",
    )


def _check_content(subject: str, ledger: LedgerFacts) -> Iterator[CheckFinding]:
    if ledger.application_id != APPLICATION_ID:
        yield LEDGER.about(subject).fault(
            "it is an SQLite database of another program", "name the ledger, or a new file, in [ledger] url"
        )
    elif ledger.version > _NEWEST_VERSION:
        yield LEDGER.about(subject).fault(
            f"it was written by a newer version (schema {ledger.version}, this one knows {_NEWEST_VERSION})",
            "install the newer version, or restore a backup from before the upgrade",
        )
    elif ledger.damage:
        yield LEDGER.about(subject).fault(
            f"it is damaged: {'; '.join(ledger.damage)}",
            "stop the daemon, and restore a backup or save its readable rows with `sqlite3 "
            f"{ledger.path.name} .recover`",
        )
    else:
        yield from _check_undamaged_ledger(subject, ledger)


def _check_undamaged_ledger(subject: str, ledger: LedgerFacts) -> Iterator[CheckFinding]:
    assert ledger.file is not None
    size = format_bytes(sum(file.size for file in ledger.files))
    if ledger.version < _NEWEST_VERSION:
        yield LEDGER.about(subject).warning(
            f"it is of an older version (schema {ledger.version}, this one knows "
            f"{_NEWEST_VERSION}), which commands cannot read",
            "back it up and start the daemon of this version, which brings it up to date",
        )
    if not ledger.has_wal:
        yield LEDGER.about(subject).warning(
            "it has no write-ahead log: commands and the daemon block each other",
            "start the daemon, which sets it",
        )
    if ledger.damage is None:
        yield LEDGER.about(subject).notice(
            f"{size}, too large to be checked here",
            f"on a copy: sqlite3 COPY 'PRAGMA quick_check'; {ledger.path} was checked in part",
        )
    else:
        yield LEDGER.about(subject).ok(
            f"whole, {size}, occurrences: {ledger.record.occurrences if ledger.record else 0:,}"
        )


def _check_owners(ledger: LedgerFacts) -> Iterator[CheckFinding]:
    main = ledger.file
    assert main is not None
    for file in ledger.files:
        if file.path.name.removeprefix(ledger.path.name) in SIDE_FILE_SUFFIXES and file.uid != main.uid:
            yield LEDGER.about(str(file.path)).fault(
                f"it is {file.owner}'s and the ledger {main.owner}'s, who cannot open the ledger so",
                f"chown {main.owner} {file.path}",
            )
        if file.mode & _OTHERS_WRITE:
            yield LEDGER.about(str(file.path)).warning(
                f"others than {file.owner} may write it, mode {file.mode:04o}", f"chmod go-w {file.path}"
            )
    if not ledger.writable:
        yield LEDGER.about(str(main.path)).fault(
            f"{main.owner}, whose it is, may not write to it or to its folder",
            f"chown {main.owner} {main.path.parent}, and chmod u+w both",
        )


def _check_disk(facts: Facts, subject: str, ledger: LedgerFacts) -> Iterator[CheckFinding]:
    yield from check_filesystem(LEDGER, subject, ledger.filesystem)
    growth = _estimate_growth(ledger.record, ledger.file, facts.settings.ledger.retention)
    if ledger.free < FULL:
        yield LEDGER.about(subject).fault(
            f"its disk has {format_bytes(ledger.free)} left; nothing is sent that cannot be recorded",
            "make room",
        )
    elif ledger.free < max(TIGHT, growth):
        more = (
            f", and it will grow by {format_bytes(growth)} within retention" if growth > ledger.free else ""
        )
        yield LEDGER.about(subject).warning(
            f"its disk has {format_bytes(ledger.free)} left{more}", "make room, or shorten [ledger] retention"
        )
    else:
        yield LEDGER.about(subject).ok(
            f"its disk has {format_bytes(ledger.free)} left"
            + (f"; it will grow by {format_bytes(growth)}" if growth > MIB else "")
        )


def _estimate_growth(record: LedgerRecord | None, file: FileFacts | None, retention: timedelta) -> int:
    """Estimate the growth of the ledger in bytes, up to its full size.

    The full size is the size with the rows of a whole retention time at the last week's rate.
    """
    if record is None or file is None or not record.occurrences:
        return 0
    rows = record.recent * (retention / timedelta(days=_WEEK))
    return max(0, int(file.size / record.occurrences * (rows - record.occurrences)))


def _check_lock(subject: str, ledger: LedgerFacts) -> Iterator[CheckFinding]:
    if ledger.holder is not None:
        yield LEDGER.about(subject).ok(
            f"held by {ledger.lock_text or 'a process that has not signed'} (the kernel: process "
            f"{ledger.holder})"
        )
    elif ledger.lock_text:
        yield LEDGER.about(subject).notice(
            f"no process holds it; {ledger.lock_text} ended without releasing it, as after a kill",
            "nothing: the next start resolves the open occurrences",
        )


def _check_bindings(facts: Facts) -> Iterator[CheckFinding]:
    """Yield a fault for each target that differs from the ledger's binding.

    The ledger binds a target's name to its URL and project. The daemon refuses a different URL, project or
    name.
    """
    recorded = facts.record.targets if facts.record else ()
    names = {(target.url, target.project_id): target.name for target in recorded}
    for target in facts.settings.targets:
        bound = facts.find_recorded_target(target.name)
        old = names.get((normalize_url(target.url), target.project_id))
        if old is not None and old != target.name:
            yield LEDGER.about(f"target {target.name}").fault(
                f"the ledger knows this project as {old}",
                f"`{format_command(f'target rename {old} {target.name}')}`, or name it {old} again",
            )
        elif bound is not None and old is None:
            yield LEDGER.about(f"target {target.name}").fault(
                f"the ledger has it as {bound.url}, project {bound.project_id}",
                _advise_on_binding(bound, target),
            )


def _advise_on_binding(bound: LedgerTarget, target: TargetSection) -> str:
    advice = "give the other project a name of its own, or the first one back its url and project_id"
    if bound.project_id != target.project_id:
        return advice
    return (
        "if it is the same API at a new address, stop the daemon and run "
        f"`{format_command(f'target move {target.name}')}`; else {advice}"
    )
