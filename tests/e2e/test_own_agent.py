"""The README's example of an agent of one's own, as printed, from an empty folder to the branch that the
agent pushed.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.operated import PATIENCE, environment, until

README = Path(__file__).parents[2] / "README.md"


def blocks() -> list[str]:
    """The commands of the example, a block for each step."""
    section = README.read_text().partition("## Your own agent\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(not shutil.which("git"), reason="git is missing")
def test_the_example_leads_from_nothing_to_a_pushed_branch(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "scheduler").symlink_to(Path(sys.executable).with_name("scheduler"))
    own = environment() | {"HOME": str(tmp_path)}  # nobody's git configuration

    def carried_out(block: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", block],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=own,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    prepare, start, run, look = blocks()
    carried_out(prepare)
    with (tmp_path / "log").open("wb") as log:
        up = subprocess.Popen(
            ["bash", "-euc", re.sub(r"^\.venv", "exec .venv", start, flags=re.MULTILINE)],
            cwd=tmp_path,
            env=own,
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: "daemon.started" in (tmp_path / "log").read_text(), "the daemon")
        carried_out(run)
        until(lambda: "command.finished" in (tmp_path / "log").read_text(), "the end of the run")
        seen = carried_out(look)
    finally:
        up.terminate()
        assert up.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    assert re.search(r"notes +success", seen)
    assert re.search(r"^Author: Agent .*\n.*\n\n +notes\n\n NOTES.md \| 1 \+$", seen, re.MULTILINE)
    (branch,) = re.findall(r"agent/\S+", carried_out("git -C demo/acme/widgets.git branch --list 'agent/*'"))
    assert carried_out(f"git -C demo/acme/widgets.git show {branch}:NOTES.md") == "Buy milk.\n"
    (output,) = (tmp_path / "demo" / "var" / "api.db.runs").glob("*/output")
    assert output.read_text() == f"pushed {branch}\n"
