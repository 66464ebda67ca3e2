"""How long an audit takes: a year of 1,000 automations, each every hour, by 300 schedules, every occurrence
with its attempt and run.

``python -m bench.audit [DAYS]`` builds such a ledger (of a year: 8.76 million occurrences, some gigabytes, a
few minutes), and times ``scheduler audit`` as a process of its own, on all cores and on one. Other days give
proportionate times.
"""

import os
import resource
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bench import parts
from scheduler.core.cron.ranges import RULES_VERSION
from scheduler.core.cron.schedule import read_versions
from scheduler.core.instants import to_text, to_text_seconds
from scheduler.ledger.schema import open_ledger

BEGIN: Final = datetime(2025, 11, 1, tzinfo=UTC)
ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "America/Sao_Paulo")
AUTOMATIONS: Final = [
    (str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))), number % 60, ZONES[number // 60 % 5])
    for number in range(1_000)
]
AT_ONCE: Final = timedelta(days=7)

_OCCURRENCES: Final = """
    INSERT INTO occurrence (target, automation_id, scheduled_for, last, name, due, deadline, outcome, reason,
        claimed_at, sent_at,
        finished_at, lateness_seconds, attempts, task_run_id, node)
    SELECT 'main', automation_id, at || 'Z', at || 'Z', name, at || '.000000Z', at || '.000000Z', 'accepted',
        'answered', at || '.000000Z',
        at || '.012345Z', at || '.345678Z', 0.012345, 1,
            strftime('%s', at) || substr(automation_id, 11), 'bench'
    FROM (SELECT strftime('%Y-%m-%dT%H:', hour) || minute || ':00' AS at, automation.* FROM hour CROSS
        JOIN automation)
    ORDER BY at, automation_id
"""
_ATTEMPTS: Final = """
    INSERT INTO attempt (occurrence_id, number, written_at, sent_at, ended_at, result, http_status)
    SELECT id, 1, claimed_at, sent_at, finished_at, 'answered', 200 FROM occurrence WHERE id > ?
"""
_RUNS: Final = """
    INSERT INTO run (target, run_id, automation_id, occurrence_id, origin, status, started_at, finished_at)
    SELECT target, task_run_id, automation_id, id, 'occurrence', 'success', sent_at, finished_at
    FROM occurrence WHERE id > ?
    ORDER BY task_run_id
"""


def build(path: Path, end: datetime) -> None:
    open_ledger(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TEMP TABLE automation (automation_id TEXT, name TEXT, minute TEXT)")
        connection.execute("CREATE TEMP TABLE hour (hour TEXT)")
        rows = [
            (automation_id, f"nightly report {number}", f"{minute:02}")
            for number, (automation_id, minute, _) in enumerate(AUTOMATIONS)
        ]
        connection.executemany("INSERT INTO temp.automation VALUES (?, ?, ?)", rows)
        _define(connection, end)
        begin = BEGIN
        while begin < end:
            _fill(connection, begin, min(begin + AT_ONCE, end))
            begin += AT_ONCE
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _define(connection: sqlite3.Connection, end: datetime) -> None:
    since, evaluated = to_text(BEGIN - timedelta(minutes=1)), read_versions()
    target = ("main", "https://api.example", "1", to_text(end), to_text(end - timedelta(seconds=1)))
    connection.execute("INSERT INTO target VALUES (?, ?, ?, ?, ?)", target)
    rules = (since, evaluated.croniter, evaluated.tzdata, RULES_VERSION)
    connection.execute(
        "INSERT INTO evaluation (since, croniter, tzdata, dst_gap, dst_repeat, rules_version) "
        "VALUES (?, ?, ?, 'after', 'once', ?)",
        rules,
    )
    connection.executemany(
        "INSERT INTO definition (target, automation_id, name, cron_expression, timezone, enabled, "
        "effective_from, observed_at, removed, "
        "croniter, tzdata) VALUES ('main', ?, 'n', ?, ?, 1, ?, ?, 0, ?, ?)",
        [(each, f"{minute} * * * *", zone, since, *rules) for each, minute, zone in AUTOMATIONS],
    )


def _fill(connection: sqlite3.Connection, begin: datetime, end: datetime) -> None:
    connection.execute("BEGIN")
    connection.execute("DELETE FROM temp.hour")
    connection.executemany(
        "INSERT INTO temp.hour VALUES (?)", ((to_text_seconds(each),) for each in _hours(begin, end))
    )
    (before,) = connection.execute("SELECT coalesce(max(id), 0) FROM occurrence").fetchone()
    connection.execute(_OCCURRENCES)
    connection.execute(_ATTEMPTS, (before,))
    connection.execute(_RUNS, (before,))
    connection.execute("COMMIT")


def _hours(begin: datetime, end: datetime) -> Iterator[datetime]:
    while begin < end:
        yield begin
        begin += timedelta(hours=1)


def timed(path: Path, end: datetime, *, cores: int) -> None:
    command = [
        sys.executable,
        "-m",
        "scheduler",
        "audit",
        "--offline",
        "--since",
        to_text_seconds(BEGIN),
        "--until",
        to_text_seconds(end),
    ]
    environ = {**os.environ, "SCHEDULER_CONFIG": "/dev/null", "SCHEDULER_LEDGER__URL": f"sqlite:///{path}"}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    allowed = set(sorted(os.sched_getaffinity(0))[:cores])
    done = subprocess.run(
        command,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{cores} cores: {wall:6.1f} s, cpu {cpu:6.1f} s, at most {after.ru_maxrss / 2**10:,.0f} MiB "
        "for each process"
    )
    print("  " + "\n  ".join((done.stdout + done.stderr).strip().splitlines()))


def main() -> None:
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 365
    end = BEGIN + timedelta(days=days)
    with parts.folder() as folder:
        path, begun = folder.absolute() / "ledger.db", time.perf_counter()
        build(path, end)
        print(
            f"{days} days, {path.stat().st_size / 2**30:.1f} GiB, built in "
            f"{time.perf_counter() - begun:.0f} s"
        )
        for cores in (len(os.sched_getaffinity(0)), 1):
            timed(path, end, cores=cores)


if __name__ == "__main__":
    main()
