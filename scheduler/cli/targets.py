"""The choice of a command's target.

The module is separate from the target's API, which is slow to load and not needed by every command.
"""

from scheduler.core.errors import ConfigurationError
from scheduler.settings import Settings, TargetSection


def choose_target(settings: Settings, name: str | None) -> TargetSection:
    """Return the target with this name, or the only target.

    Raises `ConfigurationError` without a target, for several targets without a name, and for an unknown name.
    """
    names = [target.name for target in settings.targets]
    if not names:
        raise ConfigurationError(
            "no target is configured; set [[target]] url and project_id, or SCHEDULER_TARGET__URL "
            "and …__PROJECT_ID"
        )
    if name is None and len(names) > 1:
        raise ConfigurationError(f"there are several targets; name one with --target: {', '.join(names)}")
    for target in settings.targets:
        if name in {None, target.name}:
            return target
    raise ConfigurationError(f"there is no target {name!r}; there are {', '.join(names)}")
