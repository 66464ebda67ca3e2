"""The examples of docs/api.md, as printed, against the running server; and the calls of the hosted API's own
documentation.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.operated import PATIENCE, Place, environment, page, place, until

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
ADDRESS = "127.0.0.1:8040"
SETTINGS = """
# Every answer of 400 and above is a failure, and progress is nobody's concern.
fail-with-body
silent
show-error
"""

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")


def blocks() -> list[str]:
    section = DOCUMENT.read_text().partition("## With curl\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        made.start("serve")
        until(lambda: page(made.api_port, "/healthz")[0] == 200, "the API")
        (tmp_path / ".curlrc").write_text(SETTINGS)
        yield made


def carried_out(here: Place, script: str) -> list[Any]:
    """What the answers of a script's commands say, each JSON."""
    own = environment() | {
        "CURL_HOME": str(here.folder),
        "SCHEDULER_CONFIG": str(here.file),
        "PATH": f"{Path(sys.executable).parent}:{environment()['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        env=own,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers, rest, decoder = [], done.stdout.strip(), json.JSONDecoder()
    while rest:
        answer, end = decoder.raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].strip()
    return answers


def test_the_examples_of_the_document_work_as_printed(here: Place) -> None:
    script = "\n".join(blocks())
    assert script.count(ADDRESS) == 1
    script = script.replace(ADDRESS, f"127.0.0.1:{here.api_port}")
    nightly, weekly, listed, shown, changed, started = carried_out(here, script)
    assert [nightly["timezone"], weekly["timezone"], weekly["enabled"]] == ["Europe/Zurich", "UTC", True]
    assert listed == {"count": 2, "next": None, "previous": None, "results": [nightly, weekly]}
    assert shown == nightly
    assert changed == nightly | {"enabled": False, "updated_at": changed["updated_at"]}
    assert started["last_run_status"] == "running"


HOSTED = """
export POSTHOG_PERSONAL_API_KEY={key}
curl \\
  -H "Authorization: Bearer $POSTHOG_PERSONAL_API_KEY" \\
  {host}/api/projects/{project}/task_automations/
curl \\
  -H "Authorization: Bearer $POSTHOG_PERSONAL_API_KEY" \\
  {host}/api/projects/{project}/task_automations/{id}/
curl -X POST \\
  -H 'Content-Type: application/json' \\
  -H "Authorization: Bearer $POSTHOG_PERSONAL_API_KEY" \\
  {host}/api/projects/{project}/task_automations/{id}/run/ \\
  -d name="string"
curl -X POST -H "Authorization: Bearer $POSTHOG_PERSONAL_API_KEY" \\
  {host}/api/projects/{project}/task_automations/{id}/run
curl -X DELETE \\
  -H "Authorization: Bearer $POSTHOG_PERSONAL_API_KEY" \\
  {host}/api/projects/{project}/task_automations/{id}/
"""
"""As the hosted API's documentation has them, with the places filled in that it leaves open."""


def test_the_calls_of_the_hosted_documentation_work_for_a_project_and_for_the_current_one(
    here: Place,
) -> None:
    key = json.loads(here.command("keys", "create", "--scopes", "task:write", "--json").stdout)["key"]
    (here.folder / "key").write_text(key)
    given = ("--name", "n", "--prompt", "p", "--repository", "a/b", "--cron", "0 3 * * *", "--json")
    for project in ("1", "@current"):
        created = json.loads(here.command("automations", "create", *given).stdout)
        filled = HOSTED.format(
            key=key, host=f"http://127.0.0.1:{here.api_port}", project=project, id=created["id"]
        )
        listed, shown, first, second = carried_out(here, filled)
        assert listed["results"] == [shown] == [created], project
        assert first["last_task_run_id"] != second["last_task_run_id"], project
