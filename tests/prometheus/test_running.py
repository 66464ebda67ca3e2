"""The real Prometheus and Alertmanager with the shipped files, on a real daemon and a real embedded API.

Both run from copies of the files. What the copies change is where to listen and whom to tell, the intervals
(a second instead of 15, no waiting for more alerts of a group), and how long an alert that takes two minutes
has to be so: three seconds.
"""

import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.operated import KEY, Place, page, place, until
from tests.ports import free_port
from tests.prometheus.dashboard import expressions, filled
from tests.prometheus.support import FOLDER, ROOT, RULES

NAME = 'nightly "report" \\ {{ $labels }}'
"""Names are hostile input, also to a template."""
REFUSED = "refused"
"""The target whose key the API does not know."""
SECOND_TARGET = """
[[target]]
name = "refused"
url = "http://127.0.0.1:{port}"
project_id = "2"
key_file = "{folder}/refused"
"""
FASTER = [
    (r"(scrape|evaluation)_interval: 15s", r"\1_interval: 1s"),
    (r"for: 2m$", "for: 3s"),
    (r"group_(wait|interval): \w+", r"group_\1: 1s"),
]
EMPTY = {"Last accepted", "Last success", "Since its last start and success", "Which run took longest"}
"""Panels with a query that has no answer here: the automation is not due within the test."""

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("prometheus", "prometheus-alertmanager"))),
    reason="needs both: apt-get install prometheus prometheus-alertmanager",
)


@dataclass
class Monitored:
    """What runs: the places of the daemon and Prometheus, and what the web hook was told, each notification
    with its path.
    """

    daemon: Place
    prometheus: int
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def asked(self, path: str, **query: str) -> Any:
        """What Prometheus answers; None while it does not."""
        status, answer = page(self.prometheus, f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
        assert status in {0, 200, 503}, answer
        return answer["data"] if status == 200 else None

    def values(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (self.asked("query", query=expression) or {"result": []})["result"]
        return found

    def alerts(self) -> set[str]:
        """The names of what fires."""
        return {
            each["labels"]["alertname"]
            for each in self.asked("alerts")["alerts"]
            if each["state"] == "firing"
        }


@contextmanager
def web_hook(told: list[tuple[str, dict[str, Any]]]) -> Iterator[int]:
    """Listen for what Alertmanager sends."""

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def copied(file: Path, folder: Path, ports: dict[int, int]) -> Path:
    """A copy of a shipped file that is faster, and on other ports."""
    text = file.read_text()
    for slow, fast in FASTER:
        text = re.sub(slow, fast, text, flags=re.MULTILINE)
    for port, ours in ports.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ours}")
    (folder / file.name).write_text(text)
    return folder / file.name


@contextmanager
def running(folder: Path, *command: object) -> Iterator[None]:
    """A process, for as long as the block lasts."""
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, cwd=folder)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def give_a_key(daemon: Place) -> None:
    made = daemon.command("keys", "create", "--scopes", "task:read,task:write", "--project", "1", "--json")
    (daemon.folder / "key").write_text(json.loads(made.stdout)["key"])
    (daemon.folder / REFUSED).write_text(KEY)


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    """A daemon with one target that works and one whose key is refused, and all that looks at it."""
    folder = tmp_path_factory.mktemp("monitored")
    with ExitStack() as stack:
        daemon = stack.enter_context(place(folder))
        daemon.write(SECOND_TARGET.format(port=daemon.api_port, folder=folder))
        give_a_key(daemon)
        daemon.start("serve")
        daemon.start("run")
        made = Monitored(daemon, free_port())
        hook, alertmanager = stack.enter_context(web_hook(made.told)), free_port()
        ports = {9464: daemon.server_port, 8040: daemon.api_port, 9093: alertmanager, 9095: hook}
        scrape, example, *_ = [
            copied(each, folder, ports)
            for each in (FOLDER / "scrape.yml", FOLDER / "alertmanager.example.yml", *RULES)
        ]
        listen = f"--web.listen-address=127.0.0.1:{made.prometheus}"
        stack.enter_context(
            running(
                folder, "prometheus", f"--config.file={scrape}", f"--storage.tsdb.path={folder}/tsdb", listen
            )
        )
        listen = f"--web.listen-address=127.0.0.1:{alertmanager}"
        manager = (
            "prometheus-alertmanager",
            f"--config.file={example}",
            f"--storage.path={folder}/alertmanager",
        )
        stack.enter_context(running(folder, *manager, listen, "--cluster.listen-address="))
        until(
            lambda: daemon.command("automations", "create", *AUTOMATION).returncode == 0,
            "the API to take an automation",
        )
        yield made


AUTOMATION = (
    *("--target", "main", "--name", NAME, "--prompt", "Tidy up.", "--repository", "acme/app"),
    *("--cron", "0 3 1 1 *", "--timezone", "Europe/Berlin"),
)


def test_an_alert_arrives_at_the_web_hook_with_its_runbook(monitored: Monitored) -> None:
    def arrived() -> list[tuple[str, dict[str, Any]]]:
        told = [(path, alert) for path, told in monitored.told for alert in told["alerts"]]
        return [
            (path, alert) for path, alert in told if alert["labels"]["alertname"] == "SchedulerTargetHeld"
        ]

    path, alert = until(arrived, "SchedulerTargetHeld at the web hook")[0]
    assert path == "/page"
    assert alert["status"] == "firing"
    assert alert["labels"].items() >= {"severity": "critical", "target": REFUSED, "job": "scheduler"}.items()
    file, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert f"\n### {alert['labels']['alertname']}\n".lower() == f"\n### {anchor}\n"
    assert f"\n### {alert['labels']['alertname']}\n" in (ROOT / file).read_text()
    assert f"Target {REFUSED} " in alert["annotations"]["summary"]


def test_nothing_else_fires_of_a_daemon_and_an_api_that_have_just_started(monitored: Monitored) -> None:
    until(
        lambda: monitored.values('ALERTS{alertname="SchedulerTargetHeld", alertstate="firing"}'),
        "SchedulerTargetHeld to fire",
    )
    assert monitored.alerts() == {"SchedulerTargetHeld"}
    assert [
        each
        for each in monitored.asked("rules")["groups"]
        for rule in each["rules"]
        if rule["health"] != "ok"
    ] == []


def test_everything_is_scraped_as_the_example_says(monitored: Monitored) -> None:
    until(lambda: len(monitored.values("up == 1")) == 2, "both to be scraped")
    assert {each["metric"]["job"] for each in monitored.values("up == 1")} == {"scheduler", "scheduler-api"}


def test_every_panel_has_an_answer(monitored: Monitored) -> None:
    until(
        lambda: monitored.values(f"scheduler_automation_info{{name={json.dumps(NAME)}}}"),
        "the automation to be known",
    )
    until(
        lambda: monitored.values("job_target:scheduler_fires_late:ratio_rate1h"),
        "the objective to be recorded",
    )
    values = {
        "job": "scheduler",
        "target": "main|refused",
        "automation": json.dumps(NAME)[1:-1],
        "__rate_interval": "1m",
        "__range": "1h",
    }
    asked = {title: filled(expression, values) for title, expression in expressions().items()}
    empty = {
        title.partition(" ")[2]
        for title, expression in asked.items()
        if not _has_an_answer(monitored, expression)
    }
    assert empty == EMPTY


def _has_an_answer(monitored: Monitored, expression: str) -> bool:
    """Comparisons apart: that nothing is above zero is an answer too."""
    return bool(monitored.values(re.sub(r" (?:> 0|== 1)\b", "", expression)))
