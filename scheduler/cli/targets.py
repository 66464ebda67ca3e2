"""Which target a command means. Apart from its API, which takes long to load and which not every command asks."""

from scheduler.core.errors import ConfigurationError
from scheduler.settings import Settings, TargetSection


def choose_target(settings: Settings, name: str | None) -> TargetSection:
    """The target of this name, or the only one. Raises `ConfigurationError` when that is not one."""
    names = [target.name for target in settings.targets]
    if not names:
        raise ConfigurationError("no target is configured; set [[target]] url and project_id, or SCHEDULER_TARGET__URL and …__PROJECT_ID")
    if name is None and len(names) > 1:
        raise ConfigurationError(f"there are several targets; name one with --target: {', '.join(names)}")
    for target in settings.targets:
        if name in {None, target.name}:
            return target
    raise ConfigurationError(f"there is no target {name!r}; there are {', '.join(names)}")
