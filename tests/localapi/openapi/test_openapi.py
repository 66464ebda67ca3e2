"""The shipped `openapi.yaml` says what the code does, and the running server does what it says."""

import asyncio
import json
import re
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from scheduler.localapi.http.app import OPENAPI
from scheduler.localapi.http.contract import Contract
from scheduler.localapi.http.fields import Text
from scheduler.localapi.store import FIELDS
from tests.localapi.openapi.hooks import INTEGRATION
from tests.localapi.support import COLLECTION, serving
from tests.operated import environment, place, until

ROOT: Final = Path(__file__).parents[3]
DESCRIBED: Final[dict[str, Any]] = yaml.safe_load(OPENAPI.read_text())
SCHEMAS: Final = DESCRIBED["components"]["schemas"]
FIELD: Final = {field.name: field for field in Contract().fields}
EXAMPLES: Final = 8
"""Of each operation, in each of the phases that draw."""
OPTIONS: Final = ("--checks", "all", "--seed", "1", "--max-examples", str(EXAMPLES), "--no-color")


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return SCHEMAS[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def choices(schema: dict[str, Any]) -> list[dict[str, Any]]:
    whole = resolved(schema)
    return [resolved(each) for each in whole.get("anyOf", [whole])]


def test_an_automation_has_the_fields_of_the_contract_in_their_order() -> None:
    assert list(SCHEMAS["Automation"]["properties"]) == list(FIELDS) == SCHEMAS["Automation"]["required"]


@pytest.mark.parametrize("name", ["NewAutomation", "NewAutomationForm", "Changes", "ChangesForm"])
def test_a_body_has_the_writable_fields_and_requires_those_without_a_default(name: str) -> None:
    assert list(SCHEMAS[name]["properties"]) == list(FIELD)
    required = [] if "Changes" in name else [field.name for field in FIELD.values() if field.is_required]
    assert SCHEMAS[name].get("required", []) == required


@pytest.mark.parametrize("field", FIELD.values(), ids=FIELD)
def test_each_field_has_its_limit_its_default_and_its_nulls(field: Any) -> None:
    taken = choices(SCHEMAS["NewAutomation"]["properties"][field.name])
    assert any(each.get("type") == "null" for each in taken) == field.nullable
    if isinstance(field, Text):
        limits = {each.get("maxLength") for each in taken if each.get("type") == "string"}
        shown = SCHEMAS["Automation"]["properties"][field.name].get("maxLength")
        assert limits == {field.max_length} == {shown}
    default = resolved(SCHEMAS["NewAutomation"]["properties"][field.name]).get("default")
    assert field.is_required or default == field.default


def test_each_path_has_the_methods_that_its_route_allows(tmp_path: Path) -> None:
    async def allowed() -> dict[str, set[str]]:
        async with serving(tmp_path) as served:
            created = await served.create()
            paths = {path: path.format(project_id="1", id=created["id"]) for path in DESCRIBED["paths"]}
            answers = {path: await served.client.options(actual) for path, actual in paths.items()}
            return {path: set(answer.headers["allow"].split(", ")) for path, answer in answers.items()}

    described = {
        path: {method.upper() for method in item if method != "parameters"}
        for path, item in DESCRIBED["paths"].items()
    }
    assert {
        path: methods - {"HEAD", "OPTIONS"} for path, methods in asyncio.run(allowed()).items()
    } == described
    assert next(iter(described)).format(project_id=1) == COLLECTION


def test_it_is_served_as_it_is_shipped_to_whoever_asks(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as served:
            del served.client.headers["authorization"]
            answer = await served.client.get("/openapi.yaml")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/yaml")
            assert answer.content == OPENAPI.read_bytes()

    asyncio.run(story())


def test_it_is_in_the_package_that_is_installed(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        check=True,
        cwd=ROOT,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        assert files.read(OPENAPI.relative_to(ROOT).as_posix()) == OPENAPI.read_bytes()


@pytest.mark.timeout(300)
def test_schemathesis_finds_no_difference_between_it_and_the_running_server(tmp_path: Path) -> None:
    """All its checks in all its phases, with valid and invalid data; the same ones every time, but for what
    the server makes up.
    """
    with place(tmp_path) as here:
        here.edit("[api]\n", f"[api]\ngithub_integrations = [{INTEGRATION}]\n")
        here.start("serve")
        base = f"http://127.0.0.1:{here.api_port}"
        until(lambda: answers(f"{base}/healthz"), "the API")
        key = json.loads(here.command("keys", "create", "--scopes", "task:read,task:write", "--json").stdout)[
            "key"
        ]
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                "run",
                f"{base}/openapi.yaml",
                *OPTIONS,
                "-H",
                f"Authorization: Bearer {key}",
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment()
            | {"SCHEMATHESIS_HOOKS": "tests.localapi.openapi.hooks", "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 0, done.stdout + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1]) > EXAMPLES * len(DESCRIBED["paths"]), done.stdout


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
