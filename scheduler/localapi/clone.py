"""How a repository is cloned into a run's working directory: git's argv and environment.

Credentials are git's own business: a credential helper or an SSH key, as it is configured for the user that serves. So none is in an
argv, in a URL or in a log, and git never asks a person for one.
"""

import re
from typing import Final

PROGRAM: Final = "git"
_NAME: Final = re.compile(r"(?!\.{1,2}/)[a-z0-9_.][a-z0-9_.-]*/(?!\.{1,2}$)[a-z0-9_.][a-z0-9_.-]*")
_NEVER_ASK: Final = {"GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never"}
"""There is no terminal either, so that ssh cannot ask on one. ``GIT_SSH_COMMAND`` is left alone: it goes before ``core.sshCommand``, with
which people say what key to use."""


def make_clone_argv(url: str, repository: str) -> tuple[str, ...] | None:
    """Clone the repository into the current folder; ``url`` has ``{repository}`` in it.

    None for a repository whose name could lead elsewhere in the URL (``../other``, ``a?b``): that is not for those to choose who may
    write automations.
    """
    if not _NAME.fullmatch(repository):
        return None
    return PROGRAM, "clone", "--quiet", "--", url.replace("{repository}", repository), "."


def make_clone_environment(allowed: dict[str, str]) -> dict[str, str]:
    """What git may see: what a command may, and that it must not ask. What the configuration passes on goes before."""
    return _NEVER_ASK | allowed
