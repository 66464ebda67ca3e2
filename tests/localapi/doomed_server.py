"""A server to be killed: it serves the database in a folder, starts a run of each of its automations, and
says so.

Run as ``python -m tests.localapi.doomed_server FOLDER NUMBER COMMAND…``. ``GRACE`` in the environment:
seconds from SIGTERM to SIGKILL.
"""

import asyncio
import os
import sys
from pathlib import Path

from tests.localapi.support import serving


async def main(folder: str, number: str, *command: str) -> None:
    async with serving(
        Path(folder), command=command, max_parallel=2, grace=float(os.environ.get("GRACE", "0.2"))
    ) as served:
        for name in range(int(number)):
            await served.start_run((await served.create(name=str(name)))["id"])
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
