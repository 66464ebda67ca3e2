"""What the keys may do, as `scheduler.doctor.asking` found out without doing it."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from scheduler.doctor.facts import ApiFacts, Facts
from scheduler.doctor.findings import Check, Finding, parted

SCOPES: Final = Check("scopes")


def examined(facts: Facts) -> Iterator[Finding]:
    """How it stands with the scopes of every key with which the API could be asked."""
    for target in facts.targets:
        if isinstance(target.api, ApiFacts):
            yield from _of(f"target {target.settings.name}", target.api)


def _of(subject: str, api: ApiFacts) -> Iterator[Finding]:
    reads = api.snapshot is not None
    if api.refusal is not None and api.refusal.status == HTTPStatus.FORBIDDEN:
        yield SCOPES.fault(subject, f"the key may not read automations: {api.refusal.text}", "give it the scope task:read")
    if api.writes:
        yield SCOPES.ok(subject, "the key may read and write" if reads else "the key may write")
    elif api.writes is False and api.writing is not None:
        yield SCOPES.fault(subject, f"the key may not start runs: {parted(api.writing.text, '')[0]}", "give it the scope task:write")
    elif api.writing is not None:
        yield SCOPES.warning(
            subject,
            f"whether the key may start runs cannot be told: {api.writing.text}",
            "see at the API that the key has the scope task:write",
        )
