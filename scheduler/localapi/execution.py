"""One run, from its folder to how it ended: the clone if one is configured, then the command.

Apart from `runner`, which says when; here is what a run is given, and in which order.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from scheduler.localapi import strays
from scheduler.localapi.clone import PROGRAM, clone_argv, clone_environment
from scheduler.localapi.config import RunnerConfig
from scheduler.localapi.endings import (
    NO_COMMAND,
    describe_left_behind,
    judge,
    judge_clone,
    may_be_line_end,
    not_clonable,
    not_prepared,
    not_started,
)
from scheduler.localapi.output import Output
from scheduler.localapi.process import Command, Ended, EndedBy, Limits, carry_out
from scheduler.localapi.runs import QueuedRun, RunEnd
from scheduler.localapi.start_failure import explain_line_end, explain_start_failure
from scheduler.localapi.workspace import Workspace

NEVER_PASSED: Final = frozenset({"POSTHOG_PERSONAL_API_KEY"})
"""The daemon's own key: no command sees it, whatever the configuration lists."""

Interruption = asyncio.Future[EndedBy]
"""Done when a run must end before its time, with who wants it so."""


async def execute(run: QueuedRun, config: RunnerConfig, interruption: Interruption) -> RunEnd:
    """Carry out a run, to its end or to the interruption, and say how it ended. Nothing of it goes on."""
    if not config.command:
        return NO_COMMAND
    workspace = Workspace.of(config.folder, run.id)
    try:
        await asyncio.to_thread(workspace.prepare, run.prompt)
        output = await asyncio.to_thread(Output, workspace.output, config.output_limit)
    except OSError as error:
        return not_prepared(workspace.folder, error)
    with output:
        execution = _Execution(run, config, interruption, workspace, output)
        return await execution.clone() or await execution.command()


class _Execution:
    def __init__(self, run: QueuedRun, config: RunnerConfig, interruption: Interruption, workspace: Workspace, output: Output) -> None:
        self._run = run
        self._config = config
        self._interruption = interruption
        self._workspace = workspace
        self._output = output
        # Read when the run starts. Nothing else of our own environment passes.
        self._allowed = {name: os.environ[name] for name in config.environment if name in os.environ and name not in NEVER_PASSED}
        facts = {
            "AUTOMATION_ID": run.automation_id,
            "AUTOMATION_NAME": run.name,
            "REPOSITORY": run.repository,
            "TASK_ID": run.task_id,
            "TASK_RUN_ID": run.id,
        }
        self._facts = {name: text.encode() for name, text in facts.items()}  # in UTF-8, whatever the locale's encoding is
        self._facts |= {"PROMPT_FILE": os.fsencode(workspace.prompt), strays.MARK: os.fsencode(workspace.output)}

    async def clone(self) -> RunEnd | None:
        """Clone the repository if that is configured; how the run ended if there is no clone then, though there should be one."""
        if not self._config.clone_url:
            return None
        argv = clone_argv(self._config.clone_url, self._run.repository)
        if argv is None:
            return not_clonable(self._run.repository)
        timeout = self._config.clone_timeout
        try:
            allowed = clone_environment(self._allowed)
            given = Command(argv, {**allowed, **self._facts}, self._workspace.work, umask=self._config.umask)
            ended = await self._ended(given, timeout, "git clone")
        except OSError as error:
            return not_started(PROGRAM, error, await self._look_at(explain_start_failure, PROGRAM))
        return judge_clone(ended, timeout, self._output.tail)

    async def command(self) -> RunEnd:
        """Carry out the command."""
        command, timeout = self._config.command, self._config.timeout
        try:
            folder, prompt = self._workspace.work, self._workspace.prompt
            given = Command(command, {**self._allowed, **self._facts}, folder, prompt, self._config.umask)
            ended = await self._ended(given, timeout, "the command")
        except OSError as error:
            return not_started(command[0], error, await self._look_at(explain_start_failure, command[0]))
        hint = await self._look_at(explain_line_end, command[0]) if may_be_line_end(ended) else None
        return judge(ended, timeout, self._output.tail, hint)

    async def _look_at(self, explain: Callable[[str, Mapping[str, str], Path], str | None], program: str) -> str | None:
        return await asyncio.to_thread(explain, program, self._allowed, self._workspace.work)

    async def _ended(self, command: Command, seconds: float, subject: str) -> Ended:
        if self._interruption.done():
            return Ended(self._interruption.result(), None)
        ended = await carry_out(command, Limits(seconds, self._config.grace), self._interruption, self._output.write)
        if not ended.is_clean:
            await strays.end(self._workspace.output, self._config.grace)
        if note := describe_left_behind(subject, ended):
            self._output.add_note(note)
        return ended
