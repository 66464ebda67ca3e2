"""``python -m scheduler.cli.ledger_probe LEDGER NOW``: examine the ledger as its owner, print the facts.

The probe is a separate process for two reasons. A change of user affects the whole process, while the
doctor's other checks need their own user. And a dead disk blocks every process that reads from the disk.
"""

import asyncio
import os
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

import scheduler
from scheduler.cli.file_owner import NotPermitted, act_as_owner
from scheduler.clock import SystemClock
from scheduler.core.instants import from_text, to_text
from scheduler.doctor.facts import LedgerFacts
from scheduler.doctor.probes.ledger import probe_ledger
from scheduler.localapi.runner.process import kill_child

_FACTS: Final = TypeAdapter(LedgerFacts)
_CHECK_SECONDS: Final = 40.0
"""Seconds for the check of the file's pages: enough for some gigabytes."""
_KILL_SECONDS: Final = 1.0
"""Seconds within which a killed process must end."""


async def run_ledger_probe(path: Path, now: datetime) -> LedgerFacts:
    """Run the probe in a separate process, and return the facts.

    Raises the errors of a process. The caller cancels the probe after a time limit.
    """
    # -P: code in the working directory must not run, possibly as root.
    found_in = (str(Path(scheduler.__file__).parents[1]), os.environ.get("PYTHONPATH"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, found_in))}
    command = (sys.executable, "-P", "-m", __name__, str(path), to_text(now))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        printed, _ = await process.communicate()
    except asyncio.CancelledError:
        kill_child(process)
        with suppress(TimeoutError):  # a dead disk blocks even a killed process
            await asyncio.wait_for(process.wait(), _KILL_SECONDS)  # otherwise asyncio prints a warning
        raise
    if process.returncode:
        raise RuntimeError(f"the process that read it ended with status {process.returncode}")
    return _FACTS.validate_json(printed)


def main(path: Path, now: datetime) -> None:
    """Probe the ledger, and print the facts as JSON."""
    seconds = SystemClock().boottime
    until = seconds() + _CHECK_SECONDS
    try:
        with act_as_owner(path):
            facts = probe_ledger(path, now, lambda: seconds() > until)
    except NotPermitted as error:
        facts = LedgerFacts(path=path, error=str(error))
    except OSError as error:
        fault = (error.strerror or str(error)).lower()
        facts = LedgerFacts(path=path, error=f"{path}: {fault}; run the command as root")
    sys.stdout.write(_FACTS.dump_json(facts).decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), from_text(sys.argv[2]))
