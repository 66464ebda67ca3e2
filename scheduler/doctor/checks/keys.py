"""The keys: their source, the other users who can read them, and their rights at the API.

The key itself is never shown.
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Final

from scheduler.doctor.facts import ApiFacts, Facts, FileFacts, TargetFacts, UnknownFact
from scheduler.doctor.findings import Check, CheckFinding, split_advice

KEY: Final = Check("key")
SCOPES: Final = Check("scopes")
_READ: Final = 4
_OTHERS_MASK: Final = 0o077
_OTHERS_READ: Final = 0o004
_PERSONAL_PREFIX: Final = "phx_"
_WRONG_KINDS: Final[Mapping[str, str]] = {"phc_": "a project's public key", "phs_": "a feature flag's key"}


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the key of every target, and about secrets in the configuration file."""
    if facts.holds_key and facts.configuration:
        yield KEY.about(str(facts.configuration.file)).fault(
            "the configuration seems to hold a key",
            "take it out, also of comments, put it into a file of mode 0600 that key_file names, "
            "and revoke it if others could read it",
        )
    yield from _check_proxies(facts)
    for target in facts.targets:
        yield _check_target(facts, target)


def _check_proxies(facts: Facts) -> Iterator[CheckFinding]:
    """Warn of a proxy password in a configuration file that users other than its owner and group may read."""
    if facts.configuration is None or facts.file is None or not facts.file.mode & _OTHERS_READ:
        return
    origins = facts.configuration.origins
    for number, target in enumerate(facts.settings.targets):
        origin = origins.get(("target", number, "proxy"))
        if (
            target.proxy is not None
            and target.proxy.has_credentials
            and origin is not None
            and origin.kind == "file"
        ):
            yield KEY.about(str(facts.file.path)).warning(
                "everybody on this machine may read the password of the proxy of target "
                f"{target.name}, mode {facts.file.mode:04o}",
                "chmod o-r, with the daemon's user in the file's group; or SCHEDULER_TARGET__PROXY "
                "in an EnvironmentFile= of root's",
            )


def _check_target(facts: Facts, target: TargetFacts) -> CheckFinding:
    subject, key = f"target {target.settings.name}", target.key
    if key.error is not None:
        return _report_unusable(facts, target, subject)
    if key.kind in _WRONG_KINDS:
        return KEY.about(subject).fault(
            f"{key.place} holds {_WRONG_KINDS[key.kind]}, no personal API key",
            f"put a key there that begins with {_PERSONAL_PREFIX}",
        )
    file = key.file
    if file is None or key.place is None or key.place.kind == "credential":  # systemd sets the modes
        return KEY.about(subject).ok(f"there, from {key.place}")
    if file.mode & _OTHERS_MASK:
        return KEY.about(subject).warning(
            f"others than {file.owner} may use the file {file.path}, mode {file.mode:04o}",
            f"chmod 0600 {file.path}",
        )
    return _check_readable(facts, subject, file)


def _check_readable(facts: Facts, subject: str, file: FileFacts) -> CheckFinding:
    """Check that the daemon's user can read the key file, which this command could read.

    The daemon's user is the owner of the ledger.
    """
    ledger = None if isinstance(facts.ledger, UnknownFact) else facts.ledger.file
    if ledger is not None and not file.is_accessible(ledger.uid, ledger.gid, _READ):
        return KEY.about(subject).warning(
            f"{ledger.owner}, who has the ledger, may not read the file {file.path} of {file.owner}",
            f"chown {ledger.owner} {file.path}, or hand it to the unit by LoadCredential",
        )
    return KEY.about(subject).ok(f"there, from the file {file.path}, for {file.owner} alone")


def _report_unusable(facts: Facts, target: TargetFacts, subject: str) -> CheckFinding:
    status = facts.get_daemon_target(target.settings.name)
    if (
        target.key.place is None
        and status.get("snapshot_at")
        and not status.get("held")
        and not status.get("error")
    ):
        return KEY.about(subject).notice(
            "there is none for this command; the running daemon has one that works",
            "to have the API examined too, run the command as root, or set POSTHOG_PERSONAL_API_KEY "
            "for this command",
        )
    text = (target.key.error or "").removeprefix(f"target {target.settings.name}: ")
    return KEY.about(subject).fault(*split_advice(text, "see docs/configuration.md, Keys"))


# ---------------------------------------------------------------- scopes


def check_scopes(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the scopes of every key with which the API could be asked.

    `scheduler.doctor.probes.api` tests the right to write without using this right.
    """
    for target in facts.targets:
        if isinstance(target.api, ApiFacts):
            yield from _check_target_scopes(f"target {target.settings.name}", target.api)


def _check_target_scopes(subject: str, api: ApiFacts) -> Iterator[CheckFinding]:
    reads = api.snapshot is not None
    if api.refusal is not None and api.refusal.status == HTTPStatus.FORBIDDEN:
        yield SCOPES.about(subject).fault(
            f"the key may not read automations: {api.refusal.text}", "give it the scope task:read"
        )
    if api.may_write:
        yield SCOPES.about(subject).ok("the key may read and write" if reads else "the key may write")
    elif api.may_write is False and api.write_refusal is not None:
        yield SCOPES.about(subject).fault(
            f"the key may not start runs: {split_advice(api.write_refusal.text, '')[0]}",
            "give it the scope task:write",
        )
    elif api.write_refusal is not None:
        yield SCOPES.about(subject).warning(
            f"unknown whether the key may start runs: {api.write_refusal.text}",
            "check at the API that the key has the scope task:write",
        )
