"""What it costs to evaluate a schedule, beside croniter and cronsim, which are asked the same things in the
same run.

Trust the ratios, not the times. Run as ``python -m bench.evaluate``.
"""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import median
from time import perf_counter
from typing import Final

from croniter import croniter
from cronsim import CronSim

from scheduler.core.cron.schedule import Schedule, read_versions
from scheduler.core.cron.zones import load_zone

NOW: Final = datetime(2026, 11, 23, 19, 18, 7, tzinfo=UTC)
ZONES: Final = (
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Sydney",
    "America/Sao_Paulo",
    "UTC",
)
DAYS: Final = ("* * *", "* * 1-5", "1 * *", "1,15 * *", "* * 0", "* */3 *")
ROUNDS: Final = 5
MAKERS: Final = ("ours", "croniter", "cronsim")

Spec = tuple[str, str]


def specs(count: int) -> list[Spec]:
    """Unique schedules as automations have them: times of day on common days, in a few zones."""
    draw = random.Random(1)
    unique: set[Spec] = set()
    while len(unique) < count:
        unique.add((f"{draw.randrange(60)} {draw.randrange(24)} {draw.choice(DAYS)}", draw.choice(ZONES)))
    return sorted(unique)


def ours(spec: Spec) -> datetime | None:
    return Schedule.parse(*spec).find_next(NOW)


def by_croniter(spec: Spec) -> datetime:
    return croniter(spec[0], NOW.astimezone(load_zone(spec[1])), ret_type=datetime).get_next()


def by_cronsim(spec: Spec) -> datetime:
    return next(CronSim(spec[0], NOW.astimezone(load_zone(spec[1]))))


def minutely(by: str) -> tuple[float, int]:
    """Seconds, and for how many minutes: thirty days of them, or three where that would take long."""
    berlin = NOW.astimezone(load_zone("Europe/Berlin"))
    dates = croniter("* * * * *", berlin, ret_type=datetime)
    found: dict[str, Callable[[], Iterator[object]]] = {
        "ours": lambda: Schedule.parse("* * * * *", "Europe/Berlin").iterate_between(
            NOW, NOW + timedelta(days=30)
        ),
        "croniter": lambda: (dates.get_next() for _ in range(4320)),
        "cronsim": lambda: islice(CronSim("* * * * *", berlin), 4320),
    }
    begun = perf_counter()
    count = sum(1 for _ in found[by]())
    return perf_counter() - begun, count


def each_of(make: Callable[[Spec], object], some: list[Spec]) -> float:
    begun = perf_counter()
    for spec in some:
        make(spec)
    return (perf_counter() - begun) / len(some)


def show(what: str, timings: dict[str, float]) -> None:
    print(what)
    for name, each in timings.items():
        print(f"  {name:<30}{each * 1e6:>10,.1f} µs {each / timings['ours']:>8.2f}")


def single() -> None:
    """In rounds that interleave, so that a busy machine is busy for all of them."""
    unseen = each_of(ours, specs(2400))  # only once in a process
    some, makers = specs(300), dict(zip(MAKERS, (ours, by_croniter, by_cronsim), strict=True))
    rounds = [{name: each_of(make, some) for name, make in makers.items()} for _ in range(ROUNDS)]
    timings = {name: median(each[name] for each in rounds) for name in makers}
    show("a schedule and its next fire", {**timings, "ours, never seen before": unseen})


def dense() -> None:
    rounds = [
        {name: seconds / count for name in MAKERS for seconds, count in [minutely(name)]}
        for _ in range(ROUNDS)
    ]
    show("each minute of a month", {name: median(each[name] for each in rounds) for name in MAKERS})


def many() -> None:
    unique, draw = specs(2400), random.Random(2)
    automations = [draw.choice(unique) for _ in range(100_000)]
    begun = perf_counter()
    nexts = {
        schedule: schedule.find_next(NOW) for schedule in {Schedule.parse(*spec) for spec in automations}
    }
    print(f"100,000 automations on {len(nexts):,} schedules: {perf_counter() - begun:.2f} s")


def main() -> None:
    print("croniter {}, zone data {} ({})".format(*read_versions()))
    single()
    dense()
    many()


if __name__ == "__main__":
    main()
