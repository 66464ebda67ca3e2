"""``scheduler run``: the daemon."""

import signal

import click

from scheduler.cli.group import SchedulerCommand, Source

_EXAMPLES = (
    "scheduler run --config /etc/scheduler/scheduler.toml",
    "SCHEDULER_TARGET__URL=https://us.posthog.com SCHEDULER_TARGET__PROJECT_ID=12345 scheduler run",
)


@click.command("run", cls=SchedulerCommand, section="Start", examples=_EXAMPLES)
@click.pass_obj
def command(source: Source) -> None:
    """Run the daemon for the configured targets, until SIGTERM.

    SIGHUP reloads configuration, keys and zone data. Exit status 0: ended by SIGTERM. 2: wrong configuration.
    """
    # until the daemon listens: SIGHUP ends no start, and a reload is not lost
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from scheduler.app.daemon import Daemon
    from scheduler.cli.service import run

    async def main() -> None:
        await Daemon(source.load).run()

    run(main(), source)
