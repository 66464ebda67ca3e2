"""A single run, from the folder to the result: the clone, if configured, and the command.

The module `runner` decides when a run starts. This module decides the inputs of a run, and the order of the
steps. Credentials for a clone are left to git: a credential helper or an SSH key, configured for the server's
user. No credential is in an argv, in a URL or in a log, and git never asks a person for a credential.
"""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scheduler.localapi.config import RunnerConfig
from scheduler.localapi.runner import orphans, run_results
from scheduler.localapi.runner.output import Output
from scheduler.localapi.runner.process import CommandResult, EndCause, Invocation, carry_out
from scheduler.localapi.runner.start_failure import explain_line_end, explain_start_failure
from scheduler.localapi.runner.workspace import Workspace
from scheduler.localapi.runs import QueuedRun, RunResult

FORBIDDEN_VARIABLES: Final = frozenset({"POSTHOG_PERSONAL_API_KEY"})
"""The daemon's own key: no command sees the key, whatever the configuration lists."""
_REPOSITORY: Final = re.compile(r"(?!\.{1,2}/)[a-z0-9_.][a-z0-9_.-]*/(?!\.{1,2}$)[a-z0-9_.][a-z0-9_.-]*")
_NEVER_ASK: Final = {"GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never"}
"""Variables of git; the configuration's variables have priority.

The process has no terminal either, so that ssh cannot ask there. ``GIT_SSH_COMMAND`` is not set: the variable
has priority over ``core.sshCommand``, where people configure their key.
"""

Interruption = asyncio.Future[EndCause]
"""Done when a run must end early, with the cause."""


async def execute(run: QueuedRun, config: RunnerConfig, interruption: Interruption) -> RunResult:
    """Carry out a run to the end or to the interruption. No part of the run continues."""
    if not config.command:
        return run_results.NO_COMMAND
    workspace = Workspace(config.folder / run.id)
    try:
        await asyncio.to_thread(workspace.prepare, run.prompt)
        output = await asyncio.to_thread(Output, workspace.output, config.output_limit)
    except OSError as error:
        return run_results.make_workspace_failure(workspace.folder, error)
    with closing(output):
        execution = _Execution(run, config, interruption, workspace, output, read_environment(config))
        return await execution.clone() or await execution.run_command()


@dataclass(frozen=True, slots=True)
class _Execution:
    run: QueuedRun
    config: RunnerConfig
    interruption: Interruption
    workspace: Workspace
    output: Output
    environment: dict[str, str]

    @property
    def run_variables(self) -> dict[str, bytes]:
        """The variables about the run, in UTF-8, whatever the locale's encoding is."""
        texts = {
            "AUTOMATION_ID": self.run.automation_id,
            "AUTOMATION_NAME": self.run.name,
            "REPOSITORY": self.run.repository,
            "TASK_ID": self.run.task_id,
            "TASK_RUN_ID": self.run.id,
        }
        files = {"PROMPT_FILE": self.workspace.prompt, orphans.RUN_VARIABLE: self.workspace.output}
        return {name: text.encode() for name, text in texts.items()} | {
            name: os.fsencode(path) for name, path in files.items()
        }

    async def clone(self) -> RunResult | None:
        """Clone the repository, if configured. Return the result of the run only when the clone failed."""
        if not self.config.clone_url:
            return None
        argv = make_clone_argv(self.config.clone_url, self.run.repository)
        if argv is None:
            return run_results.make_repository_failure(self.run.repository)
        timeout = self.config.clone_timeout
        end = await self._run_to_end(argv, _NEVER_ASK | self.environment, timeout, "git clone")
        return end if isinstance(end, RunResult) else run_results.judge_clone(end, timeout, self.output.tail)

    async def run_command(self) -> RunResult:
        """Carry out the command."""
        command, timeout, prompt = self.config.command, self.config.timeout, self.workspace.prompt
        end = await self._run_to_end(command, self.environment, timeout, "the command", prompt)
        if isinstance(end, RunResult):
            return end
        hint = None
        if run_results.may_be_line_end(end):
            hint = await self._explain_in_thread(explain_line_end, command[0])
        return run_results.judge_command(end, timeout, self.output.tail, hint)

    async def _run_to_end(
        self,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        seconds: float,
        subject: str,
        stdin: Path = Path(os.devnull),
    ) -> CommandResult | RunResult:
        """Carry out a command, and end all its processes.

        Return the result of the run when the command could not be started.
        """
        if self.interruption.done():
            return CommandResult(self.interruption.result(), None)
        variables: dict[str, str | bytes] = {**environment, **self.run_variables}
        command = Invocation(
            argv=argv,
            environment=variables,
            folder=self.workspace.work,
            stdin=stdin,
            umask=self.config.umask,
            timeout=seconds,
            grace=self.config.grace,
        )
        try:
            end = await carry_out(command, self.interruption, self.output.write)
            if not end.is_clean:
                await orphans.end_processes(self.workspace.output, self.config.grace)
        except OSError as error:
            hint = await self._explain_in_thread(explain_start_failure, argv[0])
            return run_results.make_start_failure(argv[0], error, hint)
        if note := run_results.describe_orphans(subject, end):
            self.output.add_note(note)
        return end

    async def _explain_in_thread(
        self, explain: Callable[[str, Mapping[str, str], Path], str | None], program: str
    ) -> str | None:
        return await asyncio.to_thread(explain, program, self.environment, self.workspace.work)


def read_environment(config: RunnerConfig) -> dict[str, str]:
    """Read the configured variables. No other variable of the server's environment is passed on."""
    names = [name for name in config.environment if name not in FORBIDDEN_VARIABLES]
    return {name: os.environ[name] for name in names if name in os.environ}


def make_clone_argv(url: str, repository: str) -> tuple[str, ...] | None:
    """Make git's argv to clone the repository into the current folder; ``url`` contains ``{repository}``.

    None for a repository with a name that could lead elsewhere in the URL (``../other``, ``a?b``): writers of
    automations may not choose this.
    """
    if not _REPOSITORY.fullmatch(repository):
        return None
    return "git", "clone", "--quiet", "--", url.replace("{repository}", repository), "."
