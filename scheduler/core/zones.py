"""Zone data: the newest of the copies that this machine has.

zoneinfo asks the system's directories first, and the `tzdata` package only for names that are missing there, whichever is
newer. A stable distribution may be a year behind, and a zone whose law has changed since then would fire an hour off. So zones
are opened here: from the newest copy, and from an older one only where the newest lacks a name. zoneinfo's own search path and
cache are left alone; whoever shows local time must take the zone from here too, or would show another time than the one that fires.

This room reads files, as zoneinfo itself does, and no clock. It stands apart from evaluation because it changes for other reasons:
with the machine and not with the rules.
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
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones  # noqa: TID251  this is that place

Source = Literal["system", "package"]

MAX_LENGTH: Final = 128  # the API's limit
UNKNOWN: Final = "unknown"
PLACEHOLDERS: Final = frozenset({"localtime", "Factory"})
"""Names in the zone data that are no zones: the setting of some machine, and the value before anybody has made that setting."""
_HOUR: Final = timedelta(hours=1)
_RELEASE: Final = re.compile(r"\d{4}[a-z]+")


class BadZone(ValueError):
    """No name of a zone. The text says what is wrong, why, and what to do."""


@dataclass(frozen=True, slots=True)
class ZoneDataCopy:
    """A directory of compiled zones, and the release of the IANA data that it was made from (``2026a``), if it says so."""

    root: Path
    source: Source
    version: str

    @classmethod
    def read(cls, root: Path, source: Source) -> "ZoneDataCopy":
        """The copy in this directory. One that names no release counts as older than any that does."""
        return cls(root, source, _read_version(root))

    def read_zone(self, name: str) -> ZoneInfo | None:
        """Read the zone, whose name is no path that leads elsewhere; None when this copy has none that can be read."""
        try:
            with (self.root / name).open("rb") as compiled:
                return ZoneInfo.from_file(compiled, key=name)
        except Exception:  # noqa: BLE001  (zoneinfo raises whatever a damaged file makes of it)
            return None

    @property
    def release(self) -> str:
        """The part of the version that sorts by time (``2026z`` comes before ``2026za``)."""
        found = _RELEASE.match(self.version)
        return found[0] if found else ""


@dataclass(frozen=True, slots=True, eq=False)
class ZoneData:
    """What was found on this machine, newest copy first, and the zones read from it so far."""

    copies: tuple[ZoneDataCopy, ...]
    names: frozenset[str]
    _zones: dict[str, ZoneInfo] = field(default_factory=dict, repr=False)

    @classmethod
    def sort_copies(cls, copies: Iterable[ZoneDataCopy]) -> "ZoneData":
        """The given copies, newest first; of two with the same release the one given first. The names are zoneinfo's."""
        return cls(tuple(sorted(copies, key=lambda copy: copy.release, reverse=True)), frozenset(available_timezones()))

    @property
    def version(self) -> str:
        """The release that is in use, or ``unknown``."""
        return self.copies[0].version if self.copies else UNKNOWN

    @property
    def source(self) -> Source:
        """Where the data in use come from."""
        return self.copies[0].source if self.copies else "system"

    def load_zone(self, name: str) -> ZoneInfo:
        """The zone of this name. Raises ZoneInfoNotFoundError when there is none, or none of the copies can be read."""
        known = self._zones.get(name)
        return known or self._zones.setdefault(name, self._open_zone(name))

    def find_disagreement(self, name: str, begin: datetime, end: datetime) -> datetime | None:
        """The first hour from ``begin`` up to ``end`` at which a copy has this zone's clock otherwise than the newest that has it does.

        None when none does: copies without the zone say nothing.
        """
        found = [zone for copy in self.copies if name in self.names and (zone := copy.read_zone(name)) is not None]
        hours = (begin + number * _HOUR for number in range(-(-(end - begin) // _HOUR)))
        return next((hour for hour in hours if len({hour.astimezone(zone).utcoffset() for zone in found}) > 1), None) if found else None

    def _open_zone(self, name: str) -> ZoneInfo:
        if name in self.names:  # so it is no path that leads elsewhere
            for copy in self.copies:
                if (found := copy.read_zone(name)) is not None:
                    return found
                # an older copy may have what this one lacks
        raise ZoneInfoNotFoundError(f"no zone data for {name!r}")


@cache
def load_zone_data() -> ZoneData:
    """The zone data of this process, read on first use and again after `reload_zones`."""
    return ZoneData.sort_copies(_find_copies())


def reload_zones() -> ZoneData:
    """Look again which copy is the newest, and read all zones anew from it: for a system or a package that was updated meanwhile."""
    load_zone_data.cache_clear()
    return load_zone_data()


def load_zone(name: str) -> ZoneInfo:
    """The zone of this name from the newest copy. Raises ZoneInfoNotFoundError (a KeyError)."""
    return load_zone_data().load_zone(name)


def check_zone_name(timezone: object) -> str:
    """The name, when it is that of a zone which can be read. Raises BadZone."""
    if not isinstance(timezone, str):
        raise BadZone(f"the timezone is {type(timezone).__name__}, not text; write the name of a zone, for example 'Europe/Berlin'")
    data = load_zone_data()
    if timezone in PLACEHOLDERS:
        raise BadZone(
            f"the timezone {timezone!r} means another zone on each machine; write the name of a zone, for example 'Europe/Berlin'"
        )
    if timezone not in data.names:
        raise BadZone(_describe_unknown(timezone, data.names))
    try:
        data.load_zone(timezone)
    except ZoneInfoNotFoundError as error:
        raise BadZone(f"the data of the timezone {timezone!r} cannot be read; install the system's or Python's tzdata again") from error
    return timezone


def find_similar_names(name: str) -> list[str]:
    """Return up to three names of zones that are most like this one: by their last part (``berlin``), or by their spelling.

    Takes some milliseconds. Not for the evaluation of many schedules.
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
"""The end of the reason why a zone is unknown. A command that knows similar names says these instead."""


def _describe_unknown(name: str, names: frozenset[str]) -> str:
    if len(name) > MAX_LENGTH:
        return f"the timezone has {len(name)} characters, more than {MAX_LENGTH}; write the name of a zone, for example 'Europe/Berlin'"
    if "\0" in name:
        return "the timezone holds a null character; remove it"
    if name.startswith("/") or ".." in name or "\\" in name:
        return f"the timezone {name!r} is a path; write the name of a zone, for example 'Europe/Berlin'"
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
    """IANA's own ``tzdata.zi`` names its release on its first line; BSD and macOS have it in ``+VERSION``."""
    for name, prefix in (("tzdata.zi", "# version "), ("+VERSION", "")):
        try:
            with (root / name).open(encoding="utf-8", errors="replace") as text:
                return text.readline(100).removeprefix(prefix).strip() or UNKNOWN
        except OSError:
            continue
    return UNKNOWN
