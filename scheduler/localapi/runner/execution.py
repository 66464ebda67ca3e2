"""A single run, from the folder to the result: the clone, if configured, and the command.

The module `runner` decides when a run starts. This module decides the inputs of a run, and the order of the
steps.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from scheduler.localapi.config import RunnerConfig
from scheduler.localapi.runner import orphans
from scheduler.localapi.runner.clone import PROGRAM, make_clone_argv, make_clone_environment
from scheduler.localapi.runner.output import Output
from scheduler.localapi.runner.process import CommandResult, EndCause, Invocation, Limits, carry_out
from scheduler.localapi.runner.run_results import (
    NO_COMMAND,
    describe_orphans,
    judge_clone,
    judge_command,
    make_repository_failure,
    make_start_failure,
    make_workspace_failure,
    may_be_line_end,
)
from scheduler.localapi.runner.start_failure import explain_line_end, explain_start_failure
from scheduler.localapi.runner.workspace import Workspace
from scheduler.localapi.runs import QueuedRun, RunResult

FORBIDDEN_VARIABLES: Final = frozenset({"POSTHOG_PERSONAL_API_KEY"})
"""The daemon's own key: no command sees the key, whatever the configuration lists."""

Interruption = asyncio.Future[EndCause]
"""Done when a run must end early, with the cause."""


async def execute(run: QueuedRun, config: RunnerConfig, interruption: Interruption) -> RunResult:
    """Carry out a run to the end or to the interruption, and return the result.

    No part of the run continues.
    """
    if not config.command:
        return NO_COMMAND
    workspace = Workspace.locate(config.folder, run.id)
    try:
        await asyncio.to_thread(workspace.prepare, run.prompt)
        output = await asyncio.to_thread(Output, workspace.output, config.output_limit)
    except OSError as error:
        return make_workspace_failure(workspace.folder, error)
    with output:
        execution = _Execution(run, config, interruption, workspace, output)
        return await execution.clone() or await execution.run_command()


class _Execution:
    def __init__(
        self,
        run: QueuedRun,
        config: RunnerConfig,
        interruption: Interruption,
        workspace: Workspace,
        output: Output,
    ) -> None:
        self._run = run
        self._config = config
        self._interruption = interruption
        self._workspace = workspace
        self._output = output
        # The variables are read when the run starts. No other variable of the server's environment is passed
        # on.
        self._environment = {
            name: os.environ[name]
            for name in config.environment
            if name in os.environ and name not in FORBIDDEN_VARIABLES
        }
        facts = {
            "AUTOMATION_ID": run.automation_id,
            "AUTOMATION_NAME": run.name,
            "REPOSITORY": run.repository,
            "TASK_ID": run.task_id,
            "TASK_RUN_ID": run.id,
        }
        # in UTF-8, whatever the locale's encoding is
        self._run_variables = {name: text.encode() for name, text in facts.items()}
        self._run_variables |= {
            "PROMPT_FILE": os.fsencode(workspace.prompt),
            orphans.RUN_VARIABLE: os.fsencode(workspace.output),
        }

    async def clone(self) -> RunResult | None:
        """Clone the repository, if configured.

        Return the result of the run when the clone failed, otherwise None.
        """
        if not self._config.clone_url:
            return None
        argv = make_clone_argv(self._config.clone_url, self._run.repository)
        if argv is None:
            return make_repository_failure(self._run.repository)
        timeout = self._config.clone_timeout
        try:
            allowed = make_clone_environment(self._environment)
            given = Invocation(
                argv, {**allowed, **self._run_variables}, self._workspace.work, umask=self._config.umask
            )
            ended = await self._run_to_end(given, timeout, "git clone")
        except OSError as error:
            return make_start_failure(
                PROGRAM, error, await self._explain_in_thread(explain_start_failure, PROGRAM)
            )
        return judge_clone(ended, timeout, self._output.tail)

    async def run_command(self) -> RunResult:
        """Carry out the command."""
        command, timeout = self._config.command, self._config.timeout
        try:
            folder, prompt = self._workspace.work, self._workspace.prompt
            given = Invocation(
                command, {**self._environment, **self._run_variables}, folder, prompt, self._config.umask
            )
            ended = await self._run_to_end(given, timeout, "the command")
        except OSError as error:
            return make_start_failure(
                command[0], error, await self._explain_in_thread(explain_start_failure, command[0])
            )
        hint = await self._explain_in_thread(explain_line_end, command[0]) if may_be_line_end(ended) else None
        return judge_command(ended, timeout, self._output.tail, hint)

    async def _explain_in_thread(
        self, explain: Callable[[str, Mapping[str, str], Path], str | None], program: str
    ) -> str | None:
        return await asyncio.to_thread(explain, program, self._environment, self._workspace.work)

    async def _run_to_end(self, command: Invocation, seconds: float, subject: str) -> CommandResult:
        if self._interruption.done():
            return CommandResult(self._interruption.result(), None)
        ended = await carry_out(
            command, Limits(seconds, self._config.grace), self._interruption, self._output.write
        )
        if not ended.is_clean:
            await orphans.end_processes(self._workspace.output, self._config.grace)
        if note := describe_orphans(subject, ended):
            self._output.add_note(note)
        return ended
