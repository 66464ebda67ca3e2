"""What the parts of the program get of the settings, with the defaults of `scheduler.settings`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from scheduler.app.api import make_api_config
from scheduler.app.settings_mapping import make_target_settings, make_upstream_config
from scheduler.core.policy import Policies
from scheduler.core.secret import SecretKey
from scheduler.daemon.context import TargetSettings
from scheduler.localapi.config import ApiConfig, RunnerConfig
from scheduler.settings.models import KEY_VARIABLE, Settings, TargetSection
from scheduler.upstream.target import TargetConfig

_SECTION: Final = TargetSection(name="main", url="https://main.example", project_id="1")
_POLICIES: Final = Settings().schedule.to_policies()
_ENVIRON: Final = {KEY_VARIABLE: "phx_only_for_tests"}


def make_policies(**changes: Any) -> Policies:
    """The policies of an automation without an override, with changes."""
    return replace(_POLICIES, **changes)


def target_settings(name: str, policies: Callable[[str, str], Policies]) -> TargetSettings:
    """The settings of a target without any of its own."""
    section = _SECTION.model_copy(update={"name": name, "url": f"https://{name}.example"})
    return replace(make_target_settings(section, Settings()), policies=policies)


def target_config(url: str, key: str, **changes: Any) -> TargetConfig:
    """The configuration of a client of the API at this address."""
    return replace(make_upstream_config(_SECTION, _ENVIRON), url=url, key=SecretKey(key), **changes)


def runner_config(folder: Path, **changes: Any) -> RunnerConfig:
    """The configuration of a runner in this folder."""
    return replace(make_api_config(Settings().api).runner, folder=folder, **changes)


def api_config(folder: Path, runner: Mapping[str, Any], **changes: Any) -> ApiConfig:
    """The configuration of an embedded API in this folder."""
    return replace(
        make_api_config(Settings().api),
        database=folder / "api.db",
        runner=runner_config(folder / "runs", **runner),
        **changes,
    )
