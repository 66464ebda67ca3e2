"""The files of a page: its style, its script and its icon.

A file name contains a digest of the content. A browser may keep a file forever, and never uses the file of
another version.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_DIGITS: Final = 12

CACHE_FOREVER: Final = "public, max-age=31536000, immutable"
"""The Cache-Control of a file whose content never changes under its name."""
ROOT: Final = "/assets/"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file with its name and content type."""

    name: str
    content: bytes
    content_type: str


def _load_asset(stem: str, suffix: str) -> Asset:
    content = (resources.files(__package__) / "assets" / f"{stem}.{suffix}").read_bytes()
    return Asset(f"{stem}.{hashlib.sha256(content).hexdigest()[:_DIGITS]}.{suffix}", content, _TYPES[suffix])


STYLE: Final = _load_asset("page", "css")
SCRIPT: Final = _load_asset("page", "js")
ICON: Final = _load_asset("icon", "svg")
ASSETS: Final = {asset.name: asset for asset in (STYLE, SCRIPT, ICON)}
