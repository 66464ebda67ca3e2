"""The base of all commands: the configuration that they use, the form of their help, and their look-up.

A command is a module in `scheduler.cli.commands` with an attribute ``command``. The name of the command is
the name of the module. To add a command, add the file.
"""

import difflib
import importlib
import os
import pkgutil
import shlex
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from scheduler.cli import commands
from scheduler.core.command_line import FILE_NAME, STATE_DIR, format_daemon_command, set_caller, set_targets
from scheduler.core.errors import ConfigurationError

if TYPE_CHECKING:
    from scheduler.settings.load import Configuration

PROGRAM: Final = "scheduler"
COMPLETION_VARIABLE: Final = "_SCHEDULER_COMPLETE"  # holds the question of the shell's completion script

AUTOMATION_FORMS: Final = "a name, an id or the first 4 or more characters of an id"
"""The forms in which commands accept an automation. The number is `lookup.LEAST_PREFIX`."""

SECTIONS: Final = ("Start", "Automations", "Record", "Schedules", "Setup")
"""The headings of the help, in order."""


def find_program(*, absolute: bool = False) -> str:
    """Return the name under which this program was called, quoted for a shell.

    ``absolute``: for readers with another working directory. A program on the PATH is called by its name
    only.
    """
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m {PROGRAM}"
    on_path = shutil.which(called.name)
    if called.name != PROGRAM or (on_path and Path(on_path).resolve() == called.resolve()):
        return PROGRAM
    return shlex.quote(str(called.absolute() if absolute else called))


@dataclass(frozen=True, slots=True)
class Source:
    """The configuration that a command uses: a file, a state directory, or with neither the default file.

    Commands get their source by ``@click.pass_obj``. Its methods import `scheduler.settings` themselves: the
    help of the program must not wait for this import.
    """

    file: Path | None = None
    state_dir: Path | None = None

    def load(self) -> "Configuration":
        """Load the configuration from the file and the environment.

        Raises `SettingsError`, and `ConfigurationError` when the state directory has no configuration or was
        moved.
        """
        from scheduler.settings.load import load

        file = self.file if self.state_dir is None else self._find_state_file(self.state_dir)
        configuration = load(file, os.environ)
        # With several targets, the commands that messages suggest need the option --target.
        set_targets(len(configuration.settings.targets))
        if self.state_dir is not None:
            from scheduler.cli.moved_directory import refuse_moved_directory

            refuse_moved_directory(configuration, self.state_dir)
        return configuration

    @property
    def options(self) -> tuple[str, ...]:
        """The options of the command line that choose this source."""
        if self.state_dir is not None:
            return STATE_DIR, str(self.state_dir)
        return () if self.file is None else ("--config", str(self.file))

    def find_absolute(self, environ: Mapping[str, str]) -> "Source":
        """Return this source with absolute paths, for the commands that a daemon prints on pages and in logs.

        For the default file, the source is empty: every command finds this file without an option.
        """
        from scheduler.settings.sources import DEFAULT_FILE, find_file

        if self.state_dir is not None:
            return Source(state_dir=self.state_dir.absolute())
        file = find_file(self.file, environ)
        if file is None or file.absolute() == DEFAULT_FILE:
            return Source()
        return Source(file.absolute())

    def _find_state_file(self, folder: Path) -> Path:
        file = folder / FILE_NAME
        if not file.exists():
            create = f"create this directory: `{format_daemon_command()}`"
            remedy = f"name the --state-dir of the running daemon, or {create}"
            raise ConfigurationError(f"there is no {file}; {remedy}")
        return file


class SchedulerCommand(click.Command):
    """A command with examples in its help, and with the common options ``--config`` and ``--state-dir``."""

    def __init__(
        self,
        name: str | None = None,
        *,
        examples: Sequence[str],
        section: str = "",
        params: Iterable[click.Parameter] = (),
        **attributes: Any,
    ) -> None:
        super().__init__(name, params=[*params, *_CONFIGURATION_OPTIONS], **attributes)
        self.examples = examples
        self.section = section

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with its `Source` as the context's object."""
        ctx.obj = make_source(ctx.params.pop("config"), ctx.params.pop("state_dir"))
        # The commands that messages suggest have the same program and options.
        set_caller(find_program(), ctx.obj.options)
        return super().invoke(ctx)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description, and the forms of the argument AUTOMATION."""
        super().format_help_text(ctx, formatter)
        if "automation" in {param.name for param in self.params if isinstance(param, click.Argument)}:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(f"AUTOMATION is {AUTOMATION_FORMS}.")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on its own line."""
        del ctx
        with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}$ {example}\n")


class SchedulerGroup(click.Group):
    """Several commands under one name."""

    command_class = SchedulerCommand

    def __init__(self, *arguments: Any, section: str = "", **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.section = section

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command named by the first argument.

        Raises `click.UsageError` for an unknown name, with the nearest known name.
        """
        name = args[0]
        known = self.list_commands(ctx)
        # click itself reports an unknown option. During the completion of a shell, nothing is an error.
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise click.UsageError(f"there is no command {name!r}; {advice}", ctx)
        return super().resolve_command(ctx, args)


class CommandFolder(SchedulerGroup):
    """The commands in `scheduler.cli.commands`. Each module is imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names of the commands, in alphabetical order."""
        del ctx
        return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name; None for an unknown name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{commands.__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands under their headings. Only commands within a group have no heading."""
        names = self.list_commands(ctx)
        help_width = formatter.width - max(map(len, names)) - 6  # indentation and gap between both columns
        rows = defaultdict[str, list[tuple[str, str]]](list)
        for name in names:
            command = self.get_command(ctx, name)
            assert isinstance(command, SchedulerCommand | SchedulerGroup)
            rows[command.section].append((name, command.get_short_help_str(help_width)))
        for section in SECTIONS:
            with formatter.section(section):
                formatter.write_dl(rows[section])


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
"""The option ``--json`` of all commands that only show something."""


_CONFIGURATION_OPTIONS: Final = (
    click.Option(
        ["--config"],
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="The configuration file, in TOML.",
    ),
    click.Option(
        ["--state-dir"],
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help=f"Use DIR/{FILE_NAME}, which `scheduler up` wrote.",
    ),
)


def make_source(file: Path | None, state_dir: Path | None) -> Source:
    """Return the source named by the options. Raises `click.UsageError` when both options are given."""
    if file is not None and state_dir is not None:
        raise click.UsageError("--config and --state-dir exclude each other; give one of them")
    return Source(file, state_dir)
