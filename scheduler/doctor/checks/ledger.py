"""The ledger: its integrity, its owner, the space on its disk, and its targets against the configuration."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from scheduler.core.command_line import format_command
from scheduler.database.files import SIDE_FILE_SUFFIXES
from scheduler.doctor.checks.disks import FULL, MIB, TIGHT, check_filesystem, format_bytes
from scheduler.doctor.facts import Facts, FileFacts, LedgerFacts, UnknownFact
from scheduler.doctor.findings import CheckFinding, Subject, split_advice
from scheduler.ledger.schema import APPLICATION_ID, MIGRATIONS
from scheduler.ledger.summary import LedgerRecord
from scheduler.ledger.targets import LedgerTarget, normalize_url
from scheduler.settings.models import TargetSection

_NEWEST_VERSION: Final = len(MIGRATIONS)
_WEEK: Final = 7
_OTHERS_WRITE: Final = 0o022


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the ledger."""
    if facts.configuration is None:
        return  # the examined ledger may not be the configured ledger
    ledger = facts.ledger
    if isinstance(ledger, UnknownFact):
        finding = f"it could not be examined: {ledger.reason}"
        path = str(facts.settings.ledger.url.path)
        yield Subject(path).fault(finding, "check its disk, and read the system log")
        return
    subject = Subject(str(ledger.path))
    if ledger.error is not None:
        error = ledger.error.removeprefix(f"{ledger.path}: ")
        yield subject.fault(*split_advice(error, "restore a backup, or name another file in [ledger] url"))
    elif ledger.file is None or not ledger.file.size:
        yield _report_absent(subject, ledger, facts)
    else:
        yield from _check_content(subject, ledger)
        yield from _check_owners(ledger)
    if ledger.folder is not None:
        yield from _check_disk(facts, subject, ledger)
    yield from _check_lock(subject, ledger)
    yield from _check_bindings(facts)


def _report_absent(subject: Subject, ledger: LedgerFacts, facts: Facts) -> CheckFinding:
    if not isinstance(facts.daemon, UnknownFact):
        finding = "it does not exist, but a daemon runs: the daemon has another ledger"
        return subject.fault(finding, "name the daemon's ledger in [ledger] url")
    if ledger.folder is None:
        advice = f"make {ledger.path.parent} for the daemon's user, or correct [ledger] url"
        return subject.fault("neither the ledger nor its folder exists", advice)
    if not ledger.writable:
        finding = f"it is not there, and {ledger.folder.owner} may not write in its folder"
        return subject.fault(finding, f"chmod u+w {ledger.path.parent}")
    finding = "it is not there yet, or empty: nothing has been recorded"
    return subject.notice(finding, "nothing: the daemon makes it when it starts")


def _check_content(subject: Subject, ledger: LedgerFacts) -> Iterator[CheckFinding]:
    if ledger.application_id != APPLICATION_ID:
        advice = "name the ledger, or a new file, in [ledger] url"
        yield subject.fault("it is an SQLite database of another program", advice)
    elif ledger.version > _NEWEST_VERSION:
        advice = "install the newer version, or restore a backup from before the upgrade"
        yield subject.fault(f"it was written by a newer version ({_describe_versions(ledger)})", advice)
    elif ledger.damage:
        rescue = f"save its readable rows with `sqlite3 {ledger.path.name} .recover`"
        advice = f"stop the daemon, and restore a backup or {rescue}"
        yield subject.fault(f"it is damaged: {'; '.join(ledger.damage)}", advice)
    else:
        yield from _check_undamaged_ledger(subject, ledger)


def _describe_versions(ledger: LedgerFacts) -> str:
    return f"schema {ledger.version}, this one knows {_NEWEST_VERSION}"


def _check_undamaged_ledger(subject: Subject, ledger: LedgerFacts) -> Iterator[CheckFinding]:
    assert ledger.file is not None
    size = format_bytes(sum(file.size for file in ledger.files))
    if ledger.version < _NEWEST_VERSION:
        finding = f"it is of an older version ({_describe_versions(ledger)}), which commands cannot read"
        advice = "back it up and start the daemon of this version, which brings it up to date"
        yield subject.warning(finding, advice)
    if not ledger.has_wal:
        finding = "it has no write-ahead log: commands and the daemon block each other"
        yield subject.warning(finding, "start the daemon, which sets it")
    if ledger.damage is None:
        advice = f"on a copy: sqlite3 COPY 'PRAGMA quick_check'; {ledger.path} was checked in part"
        yield subject.notice(f"{size}, too large to be checked here", advice)
    else:
        yield subject.ok(f"whole, {size}, occurrences: {ledger.record.occurrences if ledger.record else 0:,}")


def _check_owners(ledger: LedgerFacts) -> Iterator[CheckFinding]:
    main = ledger.file
    assert main is not None
    for file in ledger.files:
        subject = Subject(str(file.path))
        if file.path.name.removeprefix(ledger.path.name) in SIDE_FILE_SUFFIXES and file.uid != main.uid:
            finding = f"it is {file.owner}'s and the ledger {main.owner}'s, who cannot open the ledger so"
            yield subject.fault(finding, f"chown {main.owner} {file.path}")
        if file.mode & _OTHERS_WRITE:
            finding = f"others than {file.owner} may write it, mode {file.mode:04o}"
            yield subject.warning(finding, f"chmod go-w {file.path}")
    if not ledger.writable:
        finding = f"{main.owner}, whose it is, may not write to it or to its folder"
        advice = f"chown {main.owner} {main.path.parent}, and chmod u+w both"
        yield Subject(str(main.path)).fault(finding, advice)


def _check_disk(facts: Facts, subject: Subject, ledger: LedgerFacts) -> Iterator[CheckFinding]:
    yield from check_filesystem(subject, ledger.filesystem)
    growth = _estimate_growth(ledger.record, ledger.file, facts.settings.ledger.retention)
    left, grow = f"its disk has {format_bytes(ledger.free)} left", f"it will grow by {format_bytes(growth)}"
    if ledger.free < FULL:
        yield subject.fault(f"{left}; nothing is sent that cannot be recorded", "make room")
    elif ledger.free < max(TIGHT, growth):
        more = f", and {grow} within retention" if growth > ledger.free else ""
        yield subject.warning(f"{left}{more}", "make room, or shorten [ledger] retention")
    else:
        yield subject.ok(f"{left}; {grow}" if growth > MIB else left)


def _estimate_growth(record: LedgerRecord | None, file: FileFacts | None, retention: timedelta) -> int:
    """Estimate the growth of the ledger in bytes, up to its full size.

    The full size is the size with the rows of a whole retention time at the last week's rate.
    """
    if record is None or file is None or not record.occurrences:
        return 0
    rows = record.recent * (retention / timedelta(days=_WEEK))
    return max(0, int(file.size / record.occurrences * (rows - record.occurrences)))


def _check_lock(subject: Subject, ledger: LedgerFacts) -> Iterator[CheckFinding]:
    if ledger.holder is not None:
        signature = ledger.lock_text or "a process that has not signed"
        yield subject.ok(f"held by {signature} (the kernel: process {ledger.holder})")
    elif ledger.lock_text:
        finding = f"no process holds it; {ledger.lock_text} ended without releasing it, as after a kill"
        yield subject.notice(finding, "nothing: the next start resolves the open occurrences")


def _check_bindings(facts: Facts) -> Iterator[CheckFinding]:
    """Yield a fault for each target that differs from the ledger's binding.

    The ledger binds a target's name to its URL and project. The daemon refuses a different URL, project or
    name.
    """
    recorded = facts.record.targets if facts.record else ()
    names = {(target.url, target.project_id): target.name for target in recorded}
    for target in facts.settings.targets:
        subject, bound = Subject(f"target {target.name}"), facts.find_recorded_target(target.name)
        old = names.get((normalize_url(target.url), target.project_id))
        if old is not None and old != target.name:
            advice = f"`{format_command(f'target rename {old} {target.name}')}`, or name it {old} again"
            yield subject.fault(f"the ledger knows this project as {old}", advice)
        elif bound is not None and old is None:
            finding = f"the ledger has it as {bound.url}, project {bound.project_id}"
            yield subject.fault(finding, _advise_on_binding(bound, target))


def _advise_on_binding(bound: LedgerTarget, target: TargetSection) -> str:
    advice = "give the other project a name of its own, or the first one back its url and project_id"
    if bound.project_id != target.project_id:
        return advice
    move = f"stop the daemon and run `{format_command(f'target move {target.name}')}`"
    return f"if it is the same API at a new address, {move}; else {advice}"
