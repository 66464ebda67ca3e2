"""What does a daemon cost that knows 1,000 automations and has nothing to do? ``python -m bench.idle
[SECONDS]``.
"""

import sys
import time

from bench import parts


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 90.0
    with (
        parts.folder() as folder,
        parts.process("-m", "bench.server", str(parts.PORT), "1000", "0 0 29 2 *") as server,
    ):
        parts.wait_for(f"http://127.0.0.1:{parts.PORT}/arrivals", server)
        with parts.daemon(folder, parts.PORT) as started:
            time.sleep(5)
            before = parts.Usage.of(started.pid)
            time.sleep(seconds)
            after = parts.Usage.of(started.pid)
    share = (after.cpu - before.cpu) / seconds
    print(
        f"idle with 1,000 automations: {share:.2%} of one core over {seconds:.0f} s, "
        f"{after.memory / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
