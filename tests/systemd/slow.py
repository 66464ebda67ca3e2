"""A proxy before the embedded API that can hold back its answers to fires: ``python -m tests.systemd.slow
FOLDER``.

A program of its own, so that it can have the network of a machine. It listens when ``FOLDER/listening`` is
there. While ``FOLDER/hold`` is there answers are held back, and ``FOLDER/held`` says that one is.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.e2e.proxy import Proxy, Request

PORT: Final = 8041
API_PORT: Final = 8040


async def main(folder: Path) -> None:
    async def hold(request: Request, forward: Callable[[], Awaitable[bytes]]) -> bytes:
        answer = await forward()
        while request.is_run and (folder / "hold").exists():
            (folder / "held").touch()
            await asyncio.sleep(0.02)
        return answer

    await Proxy(API_PORT, hold, port=PORT).start()
    (folder / "listening").touch()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
