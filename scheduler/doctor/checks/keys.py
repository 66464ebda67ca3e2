"""The keys: their source, the other users who can read them, and their rights at the API.

The key itself is never shown.
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Final

from scheduler.doctor.facts import ApiFacts, Facts, FileFacts, KeyFacts, TargetFacts, UnknownFact
from scheduler.doctor.findings import CheckFinding, Subject, split_advice

_READ: Final = 4
_OTHERS_MASK: Final = 0o077
_OTHERS_READ: Final = 0o004
_PERSONAL_PREFIX: Final = "phx_"
_WRONG_KINDS: Final[Mapping[str, str]] = {"phc_": "a project's public key", "phs_": "a feature flag's key"}


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the key of every target, and about secrets in the configuration file."""
    if facts.holds_key is True and facts.configuration:
        advice = "take it out, also of comments, put it into a file of mode 0600 that key_file names"
        revoke = "and revoke it if others could read it"
        subject = Subject(str(facts.configuration.file))
        yield subject.fault("the configuration seems to hold a key", f"{advice}, {revoke}")
    yield from _check_proxies(facts)
    for target in facts.targets:
        yield _check_target(facts, target, Subject(f"target {target.settings.name}"))


def _check_proxies(facts: Facts) -> Iterator[CheckFinding]:
    """Warn of a proxy password in a configuration file that users other than its owner and group may read."""
    file = facts.file
    if facts.configuration is None or not isinstance(file, FileFacts) or not file.mode & _OTHERS_READ:
        return
    for number, target in enumerate(facts.settings.targets):
        origin = facts.configuration.origins.get(("target", number, "proxy"))
        if target.proxy and target.proxy.has_credentials and origin and origin.kind == "file":
            password = f"the password of the proxy of target {target.name}, mode {file.mode:04o}"
            finding = f"everybody on this machine may read {password}"
            variable = "SCHEDULER_TARGET__PROXY in an EnvironmentFile= of root's"
            advice = f"chmod o-r, with the daemon's user in the file's group; or {variable}"
            yield Subject(str(file.path)).warning(finding, advice)


def _check_target(facts: Facts, target: TargetFacts, subject: Subject) -> CheckFinding:
    key = target.key
    if key.error is not None:
        return _report_unusable(facts, target.settings.name, key, subject)
    if key.kind in _WRONG_KINDS:
        finding = f"{key.place} holds {_WRONG_KINDS[key.kind]}, no personal API key"
        return subject.fault(finding, f"put a key there that begins with {_PERSONAL_PREFIX}")
    file = key.file
    if file is None or key.place is None or key.place.kind == "credential":  # systemd sets the modes
        return subject.ok(f"there, from {key.place}")
    if file.mode & _OTHERS_MASK:
        finding = f"others than {file.owner} may use the file {file.path}, mode {file.mode:04o}"
        return subject.warning(finding, f"chmod 0600 {file.path}")
    return _check_readable(facts, subject, file)


def _check_readable(facts: Facts, subject: Subject, file: FileFacts) -> CheckFinding:
    """Check that the daemon's user can read the key file, which this command could read.

    The daemon's user is the owner of the ledger.
    """
    ledger = None if isinstance(facts.ledger, UnknownFact) else facts.ledger.file
    if ledger is not None and not file.is_accessible(ledger.uid, ledger.gid, _READ):
        finding = f"{ledger.owner}, who has the ledger, may not read the file {file.path} of {file.owner}"
        advice = f"chown {ledger.owner} {file.path}, or hand it to the unit by LoadCredential"
        return subject.warning(finding, advice)
    return subject.ok(f"there, from the file {file.path}, for {file.owner} alone")


def _report_unusable(facts: Facts, target: str, key: KeyFacts, subject: Subject) -> CheckFinding:
    status = facts.get_daemon_target(target)
    works_for_daemon = status.get("snapshot_at") and not status.get("held") and not status.get("error")
    if key.place is None and works_for_daemon:
        finding = "there is none for this command; the running daemon has one that works"
        advice = "run the command as root, or set POSTHOG_PERSONAL_API_KEY for this command"
        return subject.notice(finding, f"to have the API examined too, {advice}")
    text = (key.error or "").removeprefix(f"target {target}: ")
    return subject.fault(*split_advice(text, "see docs/configuration.md, Keys"))


# ---------------------------------------------------------------- scopes


def check_scopes(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the scopes of every key with which the API could be asked.

    `scheduler.doctor.probes.api` tests the right to write without using this right.
    """
    for target in facts.targets:
        if isinstance(target.api, ApiFacts):
            yield from _check_target_scopes(Subject(f"target {target.settings.name}"), target.api)


def _check_target_scopes(subject: Subject, api: ApiFacts) -> Iterator[CheckFinding]:
    refusal, write_refusal = api.refusal, api.write_refusal
    if refusal is not None and refusal.status == HTTPStatus.FORBIDDEN:
        finding = f"the key may not read automations: {refusal.text}"
        yield subject.fault(finding, "give it the scope task:read")
    if api.may_write:
        yield subject.ok("the key may read and write" if api.snapshot is not None else "the key may write")
    elif api.may_write is False and write_refusal is not None:
        finding = f"the key may not start runs: {split_advice(write_refusal.text, '')[0]}"
        yield subject.fault(finding, "give it the scope task:write")
    elif write_refusal is not None:
        finding = f"unknown whether the key may start runs: {write_refusal.text}"
        yield subject.warning(finding, "check at the API that the key has the scope task:write")
