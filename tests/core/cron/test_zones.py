"""The newest of several copies of the zone data counts, and a reload takes up newer ones."""

import shutil
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scheduler.core.cron import zones
from scheduler.core.cron.schedule import InvalidSchedule, Schedule, read_versions
from scheduler.core.cron.zones import ZoneData, ZoneDataCopy

Tree = Callable[..., Path]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes a directory of zones in which each given name keeps the hours of another zone."""

    def make(name: str, release: str | None = None, **zone_names: str) -> Path:
        root = tmp_path / name
        for made, real in zone_names.items():
            target = root / made.replace("__", "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original(real), target)
        if release is not None:
            (root / "tzdata.zi").write_text(
                f"# version {release}\n# This zic input file is in the public domain.\n", encoding="utf-8"
            )
        return root

    return make


def original(name: str) -> Path:
    copy = next(copy for copy in zones.load_zone_data().copies if (copy.root / name).is_file())
    return copy.root / name


@pytest.fixture
def system() -> Iterator[Callable[[Path], None]]:
    """Sets the directory that is the system's copy, for one test."""
    before = zoneinfo.TZPATH
    yield lambda root: zoneinfo.reset_tzpath(to=[str(root)])
    zoneinfo.reset_tzpath(to=before)
    zones.reload_zones()


def copies(*roots: tuple[Path, zones.Source]) -> ZoneData:
    return ZoneData.sort_copies(ZoneDataCopy.read(root, source) for root, source in roots)


@pytest.mark.parametrize(
    ("system_release", "package_release", "version", "source"),
    [
        ("2025b", "2026f", "2026f", "package"),
        ("2026f", "2025b", "2026f", "system"),
        ("2026a", "2026a", "2026a", "system"),  # zoneinfo's own order
        ("2026z", "2026za", "2026za", "package"),
        ("2026za", "2026b", "2026za", "system"),
        ("2025b-rearguard", "2025a", "2025b-rearguard", "system"),
        (None, "2020a", "2020a", "package"),
        ("unknown", "2020a", "2020a", "package"),
        (None, None, "unknown", "system"),
    ],
)
def test_the_newer_copy_counts(
    tree: Tree, system_release: str | None, package_release: str | None, version: str, source: str
) -> None:
    data = copies(
        (tree("system", system_release, Europe__Berlin="Etc/GMT+1"), "system"),
        (tree("package", package_release, Europe__Berlin="Etc/GMT+2"), "package"),
    )
    assert (data.version, data.source) == (version, source)
    assert NOON.astimezone(data.load_zone("Europe/Berlin")).utcoffset() == (
        -HOUR if source == "system" else -2 * HOUR
    )


def test_the_release_is_read_as_bsd_writes_it_too(tree: Tree) -> None:
    root = tree("system", UTC="UTC")
    (root / "+VERSION").write_text("2031c\n", encoding="utf-8")
    assert ZoneDataCopy.read(root, "system").version == "2031c"


def test_a_name_that_the_newer_copy_lacks_comes_from_the_older_one(tree: Tree) -> None:
    data = copies(
        (tree("system", "2026f", UTC="UTC"), "system"),
        (tree("package", "2025b", US__Eastern="Etc/GMT+5"), "package"),
    )
    assert NOON.astimezone(data.load_zone("US/Eastern")).utcoffset() == -5 * HOUR


def test_a_damaged_zone_comes_from_the_other_copy_or_is_refused(tree: Tree) -> None:
    damaged, whole = (
        tree("system", "2026f", Europe__Berlin="UTC", Europe__Paris="UTC"),
        tree("package", "2025b", Europe__Berlin="Etc/GMT+3"),
    )
    for name in ("Europe/Berlin", "Europe/Paris"):
        (damaged / name).write_bytes((damaged / name).read_bytes()[:50])
    data = copies((damaged, "system"), (whole, "package"))
    assert NOON.astimezone(data.load_zone("Europe/Berlin")).utcoffset() == -3 * HOUR
    with pytest.raises(zoneinfo.ZoneInfoNotFoundError, match="Europe/Paris"):
        data.load_zone("Europe/Paris")


@pytest.mark.parametrize(
    "name", ["", ".", "Europe", "../secret", "/etc/localtime", "Europe/../UTC", "utc", "tzdata.zi"]
)
def test_only_names_of_zones_are_opened(tree: Tree, tmp_path: Path, name: str) -> None:
    shutil.copyfile(original("UTC"), tmp_path / "secret")
    with pytest.raises(zoneinfo.ZoneInfoNotFoundError):
        copies((tree("system", "2026f", UTC="UTC", Europe__Berlin="UTC"), "system")).load_zone(name)


def test_without_any_copy_every_zone_is_unknown() -> None:
    data = ZoneData.sort_copies([])
    assert (data.version, data.source) == ("unknown", "system")
    with pytest.raises(zoneinfo.ZoneInfoNotFoundError):
        data.load_zone("UTC")


def test_a_zone_is_read_once(tree: Tree) -> None:
    data = copies((tree("system", "2026f", UTC="UTC"), "system"))
    assert data.load_zone("UTC") is data.load_zone("UTC")


def test_this_machine_uses_the_newest_copy_that_it_has() -> None:
    data = zones.load_zone_data()
    assert data.version == max(data.copies, key=lambda copy: copy.release).version
    assert read_versions()[1:] == (data.version, data.source)


def test_every_name_that_python_knows_can_be_scheduled_in() -> None:
    for name in zoneinfo.available_timezones() - zones.PLACEHOLDERS:
        assert Schedule.parse("0 9 * * *", name).find_next(NOON), name


def test_a_reload_takes_up_newer_data_for_schedules_that_exist(
    tree: Tree, system: Callable[[Path], None]
) -> None:
    schedule = Schedule.parse("0 9 * * *", "Europe/Berlin")
    assert schedule.find_next(NOON) == NOON + 20 * HOUR
    system(tree("system", "2999a", Europe__Berlin="Etc/GMT+3"))
    assert schedule.find_next(NOON) == NOON + 20 * HOUR  # not before the reload
    assert (zones.reload_zones().version, read_versions().tzdata, read_versions().source) == (
        "2999a",
        "2999a",
        "system",
    )
    assert schedule.find_next(NOON) == NOON + 24 * HOUR
    (zones.load_zone_data().copies[0].root / "tzdata.zi").write_text("# version 1999a\n", encoding="utf-8")
    assert zones.reload_zones().source == "package"
    assert schedule.find_next(NOON) == NOON + 20 * HOUR


def test_a_reload_tells_of_names_that_came_and_went(tree: Tree, system: Callable[[Path], None]) -> None:
    with pytest.raises(InvalidSchedule, match="unknown"):
        Schedule.parse("0 9 * * *", "Moon/Tranquility")
    system(tree("system", "2999a", Moon__Tranquility="Etc/GMT+3"))
    zones.reload_zones()
    schedule = Schedule.parse("0 9 * * *", "Moon/Tranquility")
    assert schedule.find_next(NOON) == NOON + 24 * HOUR
    shutil.rmtree(zones.load_zone_data().copies[0].root)
    zones.reload_zones()
    with pytest.raises(InvalidSchedule, match="unknown"):
        Schedule.parse("0 9 * * *", "Moon/Tranquility")
    with pytest.raises(zoneinfo.ZoneInfoNotFoundError):
        schedule.find_next(NOON)


def test_a_zone_that_cannot_be_read_is_refused_with_a_reason(
    tree: Tree, system: Callable[[Path], None]
) -> None:
    root = tree("system", "2999a", Moon__Tranquility="UTC")
    (root / "Moon/Tranquility").write_bytes(b"TZif2")
    system(root)
    zones.reload_zones()
    with pytest.raises(InvalidSchedule, match="cannot be read; install"):
        Schedule.parse("0 9 * * *", "Moon/Tranquility")


def test_zoneinfo_itself_is_left_alone() -> None:
    path, berlin = zoneinfo.TZPATH, zoneinfo.ZoneInfo("Europe/Berlin")
    zones.reload_zones()
    assert zoneinfo.TZPATH is path
    assert zoneinfo.ZoneInfo("Europe/Berlin") is berlin


@pytest.mark.parametrize(
    ("other", "begin", "end", "since"),
    [
        ("Europe/Berlin", NOON, NOON + 365 * 24 * HOUR, None),
        ("UTC", NOON, NOON + 24 * HOUR, NOON),
        (
            "Africa/Algiers",
            NOON,
            NOON + 90 * 24 * HOUR,
            datetime(2026, 3, 29, 1, tzinfo=UTC),
        ),  # as Berlin, without its summers
        ("Africa/Algiers", NOON, NOON + 80 * 24 * HOUR, None),
    ],
)
def test_from_when_on_two_copies_disagree_is_found_to_the_hour(
    tree: Tree, other: str, begin: datetime, end: datetime, since: datetime | None
) -> None:
    copies = [
        ZoneDataCopy.read(tree("new", "2026b", Europe__Berlin="Europe/Berlin"), "package"),
        ZoneDataCopy.read(tree("old", "2025a", Europe__Berlin=other), "system"),
    ]
    assert ZoneData.sort_copies(copies).find_disagreement("Europe/Berlin", begin, end) == since


def test_a_copy_without_the_zone_says_nothing_of_it(tree: Tree) -> None:
    copies = [
        ZoneDataCopy.read(tree("new", "2026b", Europe__Berlin="Europe/Berlin"), "package"),
        ZoneDataCopy.read(tree("old", "2025a", UTC="UTC"), "system"),
    ]
    data = ZoneData.sort_copies(copies)
    assert data.find_disagreement("Europe/Berlin", NOON, NOON + HOUR) is None
    assert data.find_disagreement("Asia/Tokyo", NOON, NOON + HOUR) is None
    assert data.find_disagreement("../../etc/passwd", NOON, NOON + HOUR) is None
