"""The embedded API, where it is in use: can it carry out a run, and keep it."""

from collections.abc import Iterator
from typing import Final

from scheduler.doctor.facts import EmbeddedFacts, Facts, Unknown
from scheduler.doctor.findings import Check, Finding
from scheduler.settings.models import ApiSettings

EMBEDDED: Final = Check("embedded api")
_WRITE: Final = 2
_OTHERS: Final = 0o077
_PASS: Final = 0o011  # for others, into the folder


def examined(facts: Facts) -> Iterator[Finding]:
    """How it stands with the embedded API."""
    if facts.embedded is None or facts.configuration is None:
        return
    api = facts.settings.api
    if isinstance(facts.embedded, Unknown):
        yield EMBEDDED.notice(str(api.database.path), f"it could not be looked at: {facts.embedded.why}", "ask as root, or as its user")
        return
    yield from _runner(api, facts.embedded)
    yield _database(api, facts.embedded)


def _runner(api: ApiSettings, embedded: EmbeddedFacts) -> Iterator[Finding]:
    command = api.runner.command
    if not command:
        yield EMBEDDED.warning(
            "api.runner.command", "there is none: every run fails, and says so", "set it to your agent; see docs/agents.md"
        )
    elif embedded.program is None:
        yield EMBEDDED.fault(
            "api.runner.command",
            f"{command[0]} is not there, or cannot be executed: every run fails",
            "correct it, or write its absolute path",
        )
    else:
        yield EMBEDDED.ok("api.runner.command", f"{embedded.program} is there")
    if api.runner.clone_url and embedded.git is None:
        yield EMBEDDED.fault("api.runner.clone_url", "there is no git to clone with: every run fails", "apt-get install git")


def _database(api: ApiSettings, embedded: EmbeddedFacts) -> Finding:
    subject, database, folder = str(api.database.path), embedded.database, embedded.folder
    if folder is None:
        return EMBEDDED.fault(
            subject, "not even its folder is there", f"make {api.database.path.parent} for the API's user, or correct [api] database"
        )
    if database is None:
        return EMBEDDED.notice(subject, "it is not there yet", "nothing: `scheduler serve` makes it when it starts")
    if not folder.lets(database.uid, database.gid, _WRITE):
        return EMBEDDED.fault(
            subject, f"{database.owner}, whose it is, may not write in its folder", f"chown {database.owner} {folder.path}"
        )
    if database.mode & _OTHERS and folder.mode & _PASS:
        return EMBEDDED.warning(
            subject, f"others than {database.owner} may read it, prompts too, mode {database.mode:04o}", f"chmod 0600 {database.path}"
        )
    return EMBEDDED.ok(subject, f"{database.owner}'s alone")
