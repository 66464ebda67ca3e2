"""The inputs of the doctor: the configuration or its errors, the functions to ask, and a unit's key."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from scheduler import __version__
from scheduler.app.settings_mapping import make_upstream_config
from scheduler.cli.daemon_client import fetch_page_at
from scheduler.cli.group import Source
from scheduler.cli.ledger_probe import run_ledger_probe
from scheduler.clock import SystemClock
from scheduler.doctor.fact_collector import Installation, collect_facts
from scheduler.doctor.facts import Facts
from scheduler.settings.keys import CREDENTIALS_VARIABLE
from scheduler.settings.load import Configuration
from scheduler.settings.problems import Problem, SettingsError, SettingsUnreadable

_CREDENTIALS: Final = Path("/run/credentials/scheduler.service")
"""The credentials folder of the shipped systemd unit, while the unit runs.

See systemd.exec(5), LoadCredential. root can read the folder.
"""


async def examine_installation(source: Source, progress: Callable[[float], None]) -> Facts:
    """Collect the facts of the installation named by ``source``.

    Raises `ConfigurationError` when no configuration can be read.
    """
    environ = _add_credentials(os.environ, _CREDENTIALS)
    configuration, problems = _load(source)
    installation = Installation(
        version=__version__,
        configuration=configuration,
        problems=problems,
        environ=environ,
        clock=SystemClock(),
        make_config=lambda target: make_upstream_config(target, environ),
        probe_ledger=run_ledger_probe,
        fetch_page=fetch_page_at,
    )
    return await collect_facts(installation, progress)


def _load(source: Source) -> tuple[Configuration | None, Sequence[Problem]]:
    try:
        return source.load(), ()
    except SettingsUnreadable:
        raise
    except SettingsError as error:
        return None, error.problems


def _add_credentials(environ: Mapping[str, str], credentials: Path) -> Mapping[str, str]:
    """Return the environment, with the credentials of the running unit when readable.

    The variable stays when the environment has credentials already.
    """
    if CREDENTIALS_VARIABLE in environ or not os.access(credentials, os.R_OK | os.X_OK):
        return environ
    return {**environ, CREDENTIALS_VARIABLE: str(credentials)}
