"""The keys: is there one, where is it from, and who else can read it. What a key is, is never shown."""

from collections.abc import Iterator, Mapping
from typing import Final

from scheduler.doctor.facts import Facts, FileFacts, TargetFacts, Unknown
from scheduler.doctor.findings import Check, Finding, parted

KEY: Final = Check("key")
_READ: Final = 4
_OTHERS: Final = 0o077
_ANYBODY_READS: Final = 0o004
_PERSONAL: Final = "phx_"
_KINDS: Final[Mapping[str, str]] = {"phc_": "a project's public key", "phs_": "a feature flag's key"}


def examined(facts: Facts) -> Iterator[Finding]:
    """How it stands with the key of every target."""
    if facts.holds_key and facts.configuration:
        yield KEY.fault(
            str(facts.configuration.file),
            "the configuration holds what looks like a key",
            "take it out, also of comments, put it into a file of mode 0600 that key_file names, and revoke it if others could read it",
        )
    yield from _proxies(facts)
    for target in facts.targets:
        yield _of(facts, target)


def _proxies(facts: Facts) -> Iterator[Finding]:
    """Warn of a configuration with credentials of a proxy in it that others than its owner and group may read."""
    if facts.configuration is None or facts.file is None or not facts.file.mode & _ANYBODY_READS:
        return
    origins = facts.configuration.origins
    for number, target in enumerate(facts.settings.targets):
        origin = origins.get(("target", number, "proxy"))
        if target.proxy is not None and target.proxy.has_credentials and origin is not None and origin.kind == "file":
            yield KEY.warning(
                str(facts.file.path),
                f"everybody on this machine may read the password of the proxy of target {target.name}, mode {facts.file.mode:04o}",
                "chmod o-r, with the daemon's user in the file's group; or SCHEDULER_TARGET__PROXY in an EnvironmentFile= of root's",
            )


def _of(facts: Facts, target: TargetFacts) -> Finding:
    subject, key = f"target {target.settings.name}", target.key
    if key.error is not None:
        return _unusable(facts, target, subject)
    if key.kind in _KINDS:
        return KEY.fault(
            subject, f"{key.place} holds {_KINDS[key.kind]}, no personal API key", f"put a key there that begins with {_PERSONAL}"
        )
    file = key.file
    if file is None or key.place is None or key.place.kind == "credential":  # systemd's own are as they should be
        return KEY.ok(subject, f"there, from {key.place}")
    if file.mode & _OTHERS:
        return KEY.warning(
            subject, f"others than {file.owner} may use the file {file.path}, mode {file.mode:04o}", f"chmod 0600 {file.path}"
        )
    return _readable(facts, subject, file)


def _readable(facts: Facts, subject: str, file: FileFacts) -> Finding:
    """Whether whoever has the ledger, which is the daemon's user, can read the key that we could read."""
    ledger = None if isinstance(facts.ledger, Unknown) else facts.ledger.file
    if ledger is not None and not file.lets(ledger.uid, ledger.gid, _READ):
        return KEY.warning(
            subject,
            f"{ledger.owner}, who has the ledger, may not read the file {file.path} of {file.owner}",
            f"chown {ledger.owner} {file.path}, or hand it to the unit by LoadCredential",
        )
    return KEY.ok(subject, f"there, from the file {file.path}, for {file.owner} alone")


def _unusable(facts: Facts, target: TargetFacts, subject: str) -> Finding:
    status = facts.of_daemon(target.settings.name)
    if target.key.place is None and status.get("snapshot_at") and not status.get("held") and not status.get("error"):
        return KEY.notice(
            subject,
            "there is none for this command; the running daemon has one that works",
            "to have the API examined too, ask as root, or set POSTHOG_PERSONAL_API_KEY for this command",
        )
    text = (target.key.error or "").removeprefix(f"target {target.settings.name}: ")
    return KEY.fault(subject, *parted(text, "see docs/configuration.md, Keys"))
