"""Zone data: the newest of the copies on this machine.

zoneinfo reads the system's directories first. It reads the `tzdata` package only for names missing there,
even when the package is newer. A stable distribution may be a year behind. A zone whose law has changed since
then would fire an hour off. This module therefore opens zones from the newest copy, and from an older copy
only when the newest copy lacks the name. zoneinfo's own search path and cache stay unchanged. Code for the
display of local time must take the zone from this module too. Otherwise the displayed time could differ from
the time of the fire.

This module reads files, as zoneinfo itself does, and no clock. The module is separate from evaluation because
its content changes for other reasons: with the machine and not with the rules.
"""

import difflib
import re
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones  # noqa: TID251  this module opens zones

Source = Literal["system", "package"]

MAX_LENGTH: Final = 128  # the API's limit
UNKNOWN: Final = "unknown"
PLACEHOLDERS: Final = frozenset({"localtime", "Factory"})
"""Names in the zone data that are no zones.

They are a machine's own setting, and the value before any setting.
"""
_WRITE_ZONE: Final = "write the name of a zone, for example 'Europe/Berlin'"
_HOUR: Final = timedelta(hours=1)
_RELEASE: Final = re.compile(r"\d{4}[a-z]+")


class BadZone(ValueError):
    """The text is no name of a zone. The message gives the defect, its cause and the remedy."""


@dataclass(frozen=True, slots=True)
class ZoneDataCopy:
    """A directory of compiled zones, and the release of its IANA data (``2026a``), if known."""

    root: Path
    source: Source
    version: str

    @classmethod
    def read(cls, root: Path, source: Source) -> "ZoneDataCopy":
        """Return the copy in this directory.

        A copy without a release counts as older than any copy with a release.
        """
        return cls(root, source, _read_version(root))

    def read_zone(self, name: str) -> ZoneInfo | None:
        """Read the zone, or return None when this copy has no readable zone of this name.

        The caller must check that the name is no path to another directory.
        """
        try:
            with (self.root / name).open("rb") as compiled:
                return ZoneInfo.from_file(compiled, key=name)
        except Exception:  # noqa: BLE001  (zoneinfo raises whatever a damaged file makes of it)
            return None

    @property
    def release(self) -> str:
        """The sortable part of the version (``2026z`` comes before ``2026za``)."""
        release = _RELEASE.match(self.version)
        return release[0] if release else ""


@dataclass(frozen=True, slots=True, eq=False)
class ZoneData:
    """The copies on this machine, newest first, and the zones read so far."""

    copies: tuple[ZoneDataCopy, ...]
    names: frozenset[str]
    _zones: dict[str, ZoneInfo] = field(default_factory=dict, repr=False)

    @classmethod
    def sort_copies(cls, copies: Iterable[ZoneDataCopy]) -> "ZoneData":
        """Return zone data with the copies sorted, newest first, and the names of zoneinfo.

        Copies with the same release keep their order.
        """
        return cls(
            tuple(sorted(copies, key=lambda copy: copy.release, reverse=True)),
            frozenset(available_timezones()),
        )

    @property
    def version(self) -> str:
        """The release in use, or ``unknown``."""
        return self.copies[0].version if self.copies else UNKNOWN

    @property
    def source(self) -> Source:
        """The source of the data in use."""
        return self.copies[0].source if self.copies else "system"

    def load_zone(self, name: str) -> ZoneInfo:
        """Return the zone of this name.

        Raise ZoneInfoNotFoundError when there is no such zone, or when no copy can be read.
        """
        known = self._zones.get(name)
        return known or self._zones.setdefault(name, self._open_zone(name))

    def find_disagreement(self, name: str, begin: datetime, end: datetime) -> datetime | None:
        """Return the first hour at which copies differ on this zone's clock.

        The hours are counted from ``begin`` up to ``end`` (exclusive). Return None when the copies agree.
        Copies without the zone do not count.
        """
        copies = self.copies if name in self.names else ()
        zones = [zone for copy in copies if (zone := copy.read_zone(name)) is not None]
        hours = (begin + number * _HOUR for number in range(-(-(end - begin) // _HOUR)))
        differing = (hour for hour in hours if len({hour.astimezone(zone).utcoffset() for zone in zones}) > 1)
        return next(differing, None) if zones else None

    def _open_zone(self, name: str) -> ZoneInfo:
        if name in self.names:  # a known name is no path to another directory
            for copy in self.copies:
                if (zone := copy.read_zone(name)) is not None:
                    return zone
                # an older copy may have the zone
        raise ZoneInfoNotFoundError(f"no zone data for {name!r}")


@cache
def load_zone_data() -> ZoneData:
    """Return the zone data of this process, read on first use and again after `reload_zones`."""
    return ZoneData.sort_copies(_find_copies())


def reload_zones() -> ZoneData:
    """Find the newest copy again and read all zones anew, after an update of the system or the package."""
    load_zone_data.cache_clear()
    return load_zone_data()


def load_zone(name: str) -> ZoneInfo:
    """Return the zone of this name from the newest copy. Raise ZoneInfoNotFoundError (a KeyError)."""
    return load_zone_data().load_zone(name)


def check_zone_name(timezone: object) -> str:
    """Return the name of a readable zone. Raise BadZone for any other value."""
    if not isinstance(timezone, str):
        raise BadZone(f"the timezone is {type(timezone).__name__}, not text; {_WRITE_ZONE}")
    data = load_zone_data()
    if timezone in PLACEHOLDERS:
        raise BadZone(f"the timezone {timezone!r} means another zone on each machine; {_WRITE_ZONE}")
    if timezone not in data.names:
        raise BadZone(_describe_unknown(timezone, data.names))
    try:
        data.load_zone(timezone)
    except ZoneInfoNotFoundError as error:
        raise BadZone(
            f"the data of the timezone {timezone!r} cannot be read; install the system's or Python's "
            "tzdata again"
        ) from error
    return timezone


def find_similar_names(name: str) -> list[str]:
    """Return up to three zone names most like ``name``, by the last part (``berlin``) or by the spelling.

    The search takes some milliseconds, too many for the evaluation of many schedules.
    """
    if len(name) > MAX_LENGTH:
        return []
    wanted = "_".join(name.split()).casefold()
    by_folded = {known.casefold(): known for known in sorted(load_zone_data().names)}
    ends = [folded for folded in by_folded if folded.rpartition("/")[2] == wanted.rpartition("/")[2]]
    close = difflib.get_close_matches(wanted, by_folded, n=3, cutoff=0.85)
    last_parts = {folded.rpartition("/")[2]: folded for folded in by_folded}
    misspelt = [last_parts[part] for part in difflib.get_close_matches(wanted, last_parts, n=3, cutoff=0.8)]
    return [by_folded[folded] for folded in list(dict.fromkeys([*ends, *close, *misspelt]))[:3]]


ADVICE: Final = "write a name from the IANA time zone database, for example 'Europe/Berlin'"
"""The end of the reason why a zone is unknown.

A command that knows similar names prints these names instead.
"""


def _describe_unknown(name: str, names: frozenset[str]) -> str:
    if len(name) > MAX_LENGTH:
        return f"the timezone has {len(name)} characters, more than {MAX_LENGTH}; {_WRITE_ZONE}"
    if "\0" in name:
        return "the timezone holds a null character; remove it"
    if name.startswith("/") or ".." in name or "\\" in name:
        return f"the timezone {name!r} is a path; {_WRITE_ZONE}"
    alike = next((known for known in names if known.casefold() == name.strip().casefold()), None)
    if alike:
        return f"the timezone {name!r} is unknown; it is written {alike!r}"
    return f"the timezone {name!r} is unknown; {ADVICE}"


def _find_copies() -> list[ZoneDataCopy]:
    system = [ZoneDataCopy.read(Path(root), "system") for root in zoneinfo.TZPATH if Path(root).is_dir()]
    package = _find_package()
    return [*system, ZoneDataCopy.read(package, "package")] if package else system


def _find_package() -> Path | None:
    try:
        return Path(str(resources.files("tzdata"))) / "zoneinfo"
    except ModuleNotFoundError:
        return None


def _read_version(root: Path) -> str:
    """Return the release of the zone data in ``root``, or ``unknown``.

    IANA's own ``tzdata.zi`` names the release on its first line. BSD and macOS have the release in
    ``+VERSION``.
    """
    for name, prefix in (("tzdata.zi", "# version "), ("+VERSION", "")):
        try:
            with (root / name).open(encoding="utf-8", errors="replace") as text:
                return text.readline(100).removeprefix(prefix).strip() or UNKNOWN
        except OSError:
            continue
    return UNKNOWN
