"""10,000 different JSON lines through ``scheduler next --input -``: how long, as a whole process? ``python -m
bench.next_lines``.
"""

import json
import subprocess
import sys
import time

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", "America/Santiago")


def main(count: int = 10_000) -> None:
    lines = "\n".join(
        json.dumps(
            {
                "cron": (
                    f"{number % 60} {number // 60 % 24} {'*' if number % 3 else 1 + number % 28} * "
                    f"{'*' if number % 2 else number % 7}"
                ),
                "timezone": ZONES[number % len(ZONES)],
                "from": "2026-03-27T00:00:00Z",
                "count": 5,
            }
        )
        for number in range(count)
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "scheduler", "next", "--input", "-"],
        input=lines,
        text=True,
        capture_output=True,
        check=True,
    )
    took = time.monotonic() - begun
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == count
    assert all(len(each["fires"]) == 5 for each in answers)
    print(f"next --input: {count:,} lines of 5 fires in {took:.1f} s")


if __name__ == "__main__":
    main()
