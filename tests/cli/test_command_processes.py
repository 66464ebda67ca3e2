"""Commands as processes: what only shows in a shell."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

MODULE = (sys.executable, "-m", "scheduler")
SCRIPT = (str(Path(sys.executable).parent / "scheduler"),)
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith("SCHEDULER_")} | {
    "SCHEDULER_CONFIG": "/dev/null"
}
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)  # it would hide what is left in a buffer


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``scheduler`` is ours."""
    begin = f'set -o pipefail; scheduler() {{ {sys.executable} -m scheduler "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", begin + script],
        check=False,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
    )


@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
def test_both_ways_to_start_it_are_the_same(command: Sequence[str]) -> None:
    done = subprocess.run([*command, "next", "--help"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("Usage: scheduler next [OPTIONS] [AUTOMATION]\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = shell("scheduler next --cron '* * * * *' --count 100000 --json | head -n 1")
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["timezone"] == "UTC"


def test_a_full_disk_is_told_without_a_traceback() -> None:
    done = shell("scheduler config show --json > /dev/full")
    assert done.returncode == 3
    assert done.stderr == (
        "error: the output cannot be written: No space left on device; check where the output is "
        "redirected to\n"
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-"])
def test_a_closed_stream_is_no_error(closed: str) -> None:
    done = shell(f"scheduler config show --json {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_locale_without_our_characters_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "日本.toml"
    file.write_text('[log]\nlevel = "error"')
    done = shell(f"scheduler config show --config '{file}'", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u65e5\u672c.toml" in done.stdout


def test_an_interrupt_ends_it_quietly() -> None:
    process = subprocess.Popen(
        [*MODULE, "next", "--input", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"cron": "* * * * *", "count": 1}\n')
    process.stdin.flush()
    assert process.stdout.readline().startswith(b'{"cron"')  # it answers at once, and waits for more
    process.send_signal(2)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, b"")


def test_ten_thousand_lines_take_seconds(tmp_path: Path) -> None:
    lines = [
        {
            "cron": f"{number % 60} {number // 60 % 24} * * {number // 1440}",
            "timezone": "Europe/Berlin",
            "from": "2026-03-01T00:00:00Z",
            "count": 3,
        }
        for number in range(10_000)
    ]
    file = tmp_path / "lines"
    file.write_text("\n".join(map(json.dumps, lines)))
    began = time.perf_counter()
    done = subprocess.run(
        [*MODULE, "next", "--input", str(file)], check=True, capture_output=True, text=True, env=ENVIRONMENT
    )
    assert time.perf_counter() - began < 30  # 2 s on an idle machine
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["cron"] for answer in answers] == [line["cron"] for line in lines]
    assert all(len(answer["fires"]) == 3 for answer in answers)


def loaded(*arguments: str) -> set[str]:
    """The modules that a command loads."""
    code = (
        f"import sys; from scheduler.cli import run; run({arguments!r}); print(*sys.modules, sep='\\n', "
        "file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=ENVIRONMENT
    )
    return set(done.stderr.split())


HEAVY = {
    "aiohttp",
    "asyncio",
    "croniter",
    "httpx",
    "prometheus_client",
    "pydantic",
    "sqlite3",
    "sqlite_utils",
    "starlette",
    "structlog",
    "uvicorn",
}


def test_help_loads_nothing_but_the_commands_themselves() -> None:
    modules = loaded("--help")
    assert "scheduler.cli.commands.next" in modules
    assert not modules & HEAVY


def test_evaluating_an_expression_loads_no_daemon() -> None:
    modules = loaded("next", "--cron", "* * * * *")
    assert "croniter" in modules
    assert not modules & (HEAVY - {"croniter", "pydantic"})
    assert not {
        name
        for name in modules
        if name.startswith(("scheduler.daemon", "scheduler.upstream", "scheduler.ledger", "scheduler.app"))
    }


def complete(words: str, shell_name: str = "bash") -> list[str]:
    environment = {
        **ENVIRONMENT,
        "_SCHEDULER_COMPLETE": f"{shell_name}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(MODULE, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.split()


def test_the_shell_completes_commands_and_options() -> None:
    assert complete("scheduler con") == ["plain,config"]
    assert complete("scheduler config va") == ["plain,validate"]
    assert complete("scheduler next --cr") == ["plain,--cron"]
    assert complete("scheduler completion z") == ["plain,zsh"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_completion_script_asks_this_program(name: str) -> None:
    done = shell(f"scheduler completion {name}")
    assert done.returncode == 0
    assert f"_SCHEDULER_COMPLETE={name}_complete" in done.stdout


def test_bash_takes_the_script_and_completes_with_it() -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = """
        eval "$(scheduler completion bash)"
        COMP_WORDS=(scheduler con); COMP_CWORD=1
        _scheduler_completion scheduler
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script], check=False, capture_output=True, text=True, env={**ENVIRONMENT, "PATH": path}
    )
    assert (done.stdout, done.stderr) == ("config\n", "")
