"""The rights of the keys, as `scheduler.doctor.api_probe` found out without using the right to write."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from scheduler.doctor.facts import ApiFacts, Facts
from scheduler.doctor.findings import Check, CheckFinding, split_advice

SCOPES: Final = Check("scopes")


def check(facts: Facts) -> Iterator[CheckFinding]:
    """Yield the findings about the scopes of every key with which the API could be asked."""
    for target in facts.targets:
        if isinstance(target.api, ApiFacts):
            yield from _check_target(f"target {target.settings.name}", target.api)


def _check_target(subject: str, api: ApiFacts) -> Iterator[CheckFinding]:
    reads = api.snapshot is not None
    if api.refusal is not None and api.refusal.status == HTTPStatus.FORBIDDEN:
        yield SCOPES.fault(
            subject, f"the key may not read automations: {api.refusal.text}", "give it the scope task:read"
        )
    if api.may_write:
        yield SCOPES.ok(subject, "the key may read and write" if reads else "the key may write")
    elif api.may_write is False and api.write_refusal is not None:
        yield SCOPES.fault(
            subject,
            f"the key may not start runs: {split_advice(api.write_refusal.text, '')[0]}",
            "give it the scope task:write",
        )
    elif api.write_refusal is not None:
        yield SCOPES.warning(
            subject,
            f"whether the key may start runs cannot be told: {api.write_refusal.text}",
            "see at the API that the key has the scope task:write",
        )
