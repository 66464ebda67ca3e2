"""The clone of a repository into a run's working directory: git's argv and environment.

Credentials are left to git: a credential helper or an SSH key, configured for the server's user. No
credential is in an argv, in a URL or in a log, and git never asks a person for a credential.
"""

import re
from typing import Final

PROGRAM: Final = "git"
_NAME: Final = re.compile(r"(?!\.{1,2}/)[a-z0-9_.][a-z0-9_.-]*/(?!\.{1,2}$)[a-z0-9_.][a-z0-9_.-]*")
_NEVER_ASK: Final = {"GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never"}
"""The process has no terminal either, so that ssh cannot ask there.

``GIT_SSH_COMMAND`` is not set: the variable has priority over ``core.sshCommand``, where people configure
their key.
"""


def make_clone_argv(url: str, repository: str) -> tuple[str, ...] | None:
    """Make the argv to clone the repository into the current folder; ``url`` contains ``{repository}``.

    None for a repository with a name that could lead elsewhere in the URL (``../other``, ``a?b``): writers of
    automations may not choose this.
    """
    if not _NAME.fullmatch(repository):
        return None
    return PROGRAM, "clone", "--quiet", "--", url.replace("{repository}", repository), "."


def make_clone_environment(allowed: dict[str, str]) -> dict[str, str]:
    """Make the environment of git: the environment of a command, and a ban on questions.

    The configuration's variables have priority.
    """
    return _NEVER_ASK | allowed
