"""The layers, and what is reported of their mistakes."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.settings import sources
from scheduler.settings.load import Configuration, load
from scheduler.settings.problems import Problem, SettingsError, SettingsUnreadable

TARGET = '[[target]]\nurl = "https://a.example"\nproject_id = "1"\n'


NO_FILE = Path("/nonexistent/scheduler.toml")


@pytest.fixture(autouse=True)
def _without_a_default_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DEFAULT_FILE", NO_FILE)


def read(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> Configuration:
    file = tmp_path / "scheduler.toml"
    file.write_text(text)
    return load(file, environ or {})


def problems(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[Problem]:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text, environ)
    return list(caught.value.problems)


def value(configuration: Configuration, *path: str | int) -> tuple[object, str]:
    return next((one.value, str(one.origin)) for one in configuration.list_effective() if one.path == path)


def test_without_any_layer_all_settings_have_their_defaults() -> None:
    configuration = load(None, {})
    assert configuration.file is None
    assert configuration.settings.targets == ()
    assert {str(one.origin) for one in configuration.list_effective()} == {"default"}


def test_each_layer_counts_above_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.toml"
    file.write_text('[server]\nlisten = "127.0.0.1:1"\n[log]\nlevel = "debug"\nformat = "json"\n')
    environ = {"SCHEDULER_SERVER__LISTEN": "127.0.0.1:2", "SCHEDULER_LOG__LEVEL": "error"}
    configuration = load(file, environ)
    assert value(configuration, "server", "listen") == ("127.0.0.1:2", "environment SCHEDULER_SERVER__LISTEN")
    assert value(configuration, "log", "level") == ("error", "environment SCHEDULER_LOG__LEVEL")
    assert value(configuration, "log", "format") == ("json", f"file {file}")
    assert value(configuration, "ledger", "retention") == ("180d", "default")


@pytest.mark.parametrize(("text", "umask"), [("022", 0o022), ("0077", 0o077), ("000", 0)])
def test_a_umask_is_octal_text_in_file_and_environment(tmp_path: Path, text: str, umask: int) -> None:
    file = read(tmp_path, f'[api.runner]\numask = "{text}"\n')
    environment = load(None, {"SCHEDULER_API__RUNNER__UMASK": text})
    assert (file.settings.api.runner.umask, environment.settings.api.runner.umask) == (umask, umask)
    assert value(file, "api", "runner", "umask")[0] == text[-3:]


def test_the_file_is_the_one_given_else_the_variables_else_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, named, default = (tmp_path / name for name in ("given.toml", "named.toml", "default.toml"))
    for file in (given, named, default):
        file.touch()
    monkeypatch.setattr(sources, "DEFAULT_FILE", default)
    assert load(given, {"SCHEDULER_CONFIG": str(named)}).file == given
    assert load(None, {"SCHEDULER_CONFIG": str(named)}).file == named
    assert load(None, {}).file == default


@pytest.mark.parametrize("environ", [{}, {"SCHEDULER_CONFIG": "/nonexistent/named.toml"}])
def test_a_file_that_was_asked_for_must_be_there(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsUnreadable, match="No such file") as caught:
        load(None if environ else NO_FILE, environ)
    assert "/nonexistent/" in caught.value.problems[0].where


def test_three_variables_are_a_target_without_a_file() -> None:
    environ = {"SCHEDULER_TARGET__URL": "https://us.posthog.com/", "SCHEDULER_TARGET__PROJECT_ID": "12345"}
    (target,) = load(None, environ).settings.targets
    assert (target.name, target.url, target.project_id) == ("default", "https://us.posthog.com", "12345")


def test_a_variable_changes_the_only_target_of_the_file(tmp_path: Path) -> None:
    configuration = read(tmp_path, TARGET, {"SCHEDULER_TARGET__MAX_IN_FLIGHT": "3"})
    (target,) = configuration.settings.targets
    assert (target.url, target.max_in_flight) == ("https://a.example", 3)


@pytest.mark.parametrize(
    ("variable", "text", "path", "expected"),
    [
        ("SCHEDULER_SERVER__LISTEN", "", ("server", "listen"), ""),
        ("SCHEDULER_SERVER__PER_AUTOMATION_METRICS", "auto", ("server", "per_automation_metrics"), "auto"),
        ("SCHEDULER_SERVER__PER_AUTOMATION_METRICS", "true", ("server", "per_automation_metrics"), True),
        ("SCHEDULER_SERVER__RUN_OUTPUT", "false", ("server", "run_output"), False),
        ("SCHEDULER_SCHEDULE__PAUSED", "true", ("schedule", "paused"), True),
        ("SCHEDULER_SCHEDULE__JITTER", "2m", ("schedule", "jitter"), "2m"),
        ("SCHEDULER_DAEMON__NODE", "123", ("daemon", "node"), "123"),
        ("SCHEDULER_API__GITHUB_INTEGRATIONS", "[1, 2]", ("api", "github_integrations"), [1, 2]),
        ("SCHEDULER_API__RUNNER__COMMAND", '["cat"]', ("api", "runner", "command"), ["cat"]),
        (
            "SCHEDULER_API__RUNNER",
            '{"command": ["cat"], "timeout": "5m"}',
            ("api", "runner", "command"),
            ["cat"],
        ),
    ],
)
def test_a_variable_is_text_or_json_as_its_setting_wants(
    variable: str, text: str, path: tuple[str, ...], expected: object
) -> None:
    configuration = load(None, {variable: text})
    assert value(configuration, *path) == (expected, f"environment {variable}")


def test_a_table_in_a_variable_leaves_the_rest_of_the_table(tmp_path: Path) -> None:
    runner = read(
        tmp_path, '[api.runner]\ncommand = ["cat"]\n', {"SCHEDULER_API__RUNNER": '{"max_parallel": 9}'}
    ).settings.api.runner
    assert (runner.command, runner.max_parallel) == (("cat",), 9)


def test_variables_without_two_underlines_are_none_of_ours() -> None:
    load(
        None,
        {
            "SCHEDULER_CONFIG": "",
            "SCHEDULER_SERVICE_HOST": "10.0.0.1",
            "SCHEDULER_SERVER": "x",
            "OTHER_SERVER__LISTEN": "x",
        },
    )


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("SCHEDULER_SERVER__LISTEM", "SCHEDULER_SERVER__LISTEN"),
        ("SCHEDULER_server__listen", "SCHEDULER_SERVER__LISTEN"),
        ("SCHEDULER__LISTEN", "SCHEDULER_API__LISTEN"),
        ("SCHEDULER_LISTEN__", "SCHEDULER_API__LISTEN"),
        ("SCHEDULER_TARGETS__URL", "SCHEDULER_TARGET__URL"),
    ],
)
def test_an_unknown_variable_names_the_nearest_known_one(variable: str, nearest: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {variable: "phx_secret"})
    (problem,) = caught.value.problems
    assert problem.where == f"environment {variable}"
    assert f"did you mean {nearest}?" in problem.remedy
    assert "secret" not in str(caught.value)


def test_a_variable_cannot_choose_between_targets(tmp_path: Path) -> None:
    two = TARGET + TARGET.replace("[[target]]", '[[target]]\nname = "b"').replace("a.example", "b.example")
    (problem,) = problems(tmp_path, two, {"SCHEDULER_TARGET__URL": "https://c.example"})
    assert "the file has 2" in problem.what


def test_overrides_are_not_for_the_environment() -> None:
    with pytest.raises(SettingsError, match="overrides cannot be set"):
        load(None, {"SCHEDULER_OVERRIDE__JITTER": "1s"})


@pytest.mark.parametrize(
    ("text", "place", "suggestion"),
    [
        ("[schedule]\npoll_intervall = '3s'", "schedule.poll_intervall", "did you mean poll_interval?"),
        ("[schedule]\npoll-interval = '3s'", "schedule.poll-interval", "did you mean poll_interval?"),
        ("[Schedule]\njitter = '3s'", "Schedule", "did you mean schedule?"),
        ("[server]\npoll_interval = '3s'", "server.poll_interval", "did you mean schedule.poll_interval?"),
        ("url = 'https://a.example'", "url", "did you mean target.url?"),
        ("[api.runer]\ncommand = ['cat']", "api.runer", "did you mean runner?"),
        ("[api.runner]\ncomand = ['cat']", "api.runner.comand", "did you mean command?"),
        (TARGET + "projectid = 1", "target[0].projectid", "did you mean project_id?"),
        (TARGET + "key = 'phx_secret'", "target[0].key", "did you mean target.key_file?"),
        ("zzz = 1", "zzz", "did you mean"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one_and_never_its_value(
    tmp_path: Path, text: str, place: str, suggestion: str
) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.where == f"file {tmp_path}/scheduler.toml: {place}"
    assert problem.what == "is no known setting"
    assert suggestion in problem.remedy
    assert "secret" not in str(problem)


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("[[target]]", "target[0]", "is missing"),
        (TARGET + "[[target]]", "target[1].url", "is missing"),
        (TARGET + "name = 'a b'", "target[0].name", "short name"),
        (TARGET + "max_in_flight = '3'", "target[0].max_in_flight", 'a whole number, not "3"'),
        (TARGET + "max_in_flight = 0", "target[0].max_in_flight", "at least 1, not 0"),
        (TARGET + "max_in_flight = 1000001", "target[0].max_in_flight", "at most 1000000"),
        (TARGET + "idempotent = 1", "target[0].idempotent", "true or false, not 1"),
        (TARGET + "request_timeout = '0s'", "target[0].request_timeout", "more than nothing"),
        (TARGET + "key_file = 'phx_secret'", "target[0].key_file", "seems to hold a key"),
        (TARGET + "ca_file = 5", "target[0].ca_file", "path of a file"),
        ("[target]\nurl = 'https://a.example'", "target", "a list of tables, not a table"),
        ("target = ['a']", "target[0]", "should be a table"),
        ("target = 'url = http://me:secret@proxy'", "target", "a text that looks like a URL with a password"),
        (f"{TARGET}proxy = 'https://me:secret@proxy:3128'", "target[0].proxy", "should begin with http://"),
        (
            f"{TARGET}proxy = ['http://me:secret@proxy:3128']",
            "target[0].proxy",
            "should be the URL of a proxy",
        ),
        ("[[schedule]]\njitter = '1s'", "schedule", "should be a table, not a list"),
        ("schedule = 5", "schedule", "should be a table, not 5"),
        ("[schedule]\njitter = 5", "schedule.jitter", "should be a duration, not 5"),
        ("[schedule]\nstart_within = '0s'", "schedule.start_within", "more than nothing"),
        ("[schedule]\ncatch_up = 'some'", "schedule.catch_up", "'latest', 'all' or 'none', not \"some\""),
        ("[schedule]\npaused = 'phx_secret'", "schedule.paused", "not a text that looks like a key"),
        ("[[override]]\nautomation = 'x'", "override[0]", "changes nothing"),
        ("[[override]]\njitter = '1s'", "override[0].automation", "is missing"),
        ("[[override]]\nautomation = ''\njitter = '1s'", "override[0].automation", "pattern"),
        ("[[override]]\nautomation = 'x'\nrun_timeout = '1h'", "override[0].run_timeout", "no known setting"),
        ("[ledger]\nurl = 'postgresql://a:secret@b/c'", "ledger.url", "not supported yet"),
        (
            "[server]\nper_automation_metrics = 'yes'",
            "server.per_automation_metrics",
            '"auto", true or false',
        ),
        ("[daemon]\nnode = 5", "daemon.node", "should be a name"),
        ("[api]\ngithub_integrations = ['1']", "api.github_integrations[0]", "whole number"),
        ("[api]\npublic_url = 'example.org'", "api.public_url", "should begin with https://"),
        ("[api]\npublic_url = 'https://x:secret@example.org'", "api.public_url", "user name or password"),
        ("[api.runner]\ncommand = 'cat'", "api.runner.command", 'a list, not "cat"'),
        ("[api.runner]\ncommand = ['']", "api.runner.command[0]", "word of a command"),
        (
            "[api.runner]\nenvironment = ['A=b']",
            "api.runner.environment[0]",
            "name of an environment variable",
        ),
        (
            "[api.runner]\nenvironment = ['POSTHOG_PERSONAL_API_KEY']",
            "api.runner.environment[0]",
            "the daemon's own key",
        ),
        ("[api.runner]\numask = 18", "api.runner.umask", "octal umask in quotes, not 18"),
        ("[api.runner]\numask = '22'", "api.runner.umask", "octal umask in quotes"),
        ("[api.runner]\numask = '089'", "api.runner.umask", "octal umask in quotes"),
        ("[api.runner]\numask = '277'", "api.runner.umask", "denies the command its own files"),
        ("[api.runner]\nclone_url = 'https://example.org'", "api.runner.clone_url", "{repository}"),
        (
            "[api.runner]\nclone_url = 'https://x:secret@example.org/{repository}'",
            "api.runner.clone_url",
            "user name or password",
        ),
        (
            "[api.runner]\nclone_url = 'https://secret@example.org/{repository}'",
            "api.runner.clone_url",
            "user name or password",
        ),
        (
            "[api.runner]\nclone_url = 'https::https://secret@example.org/{repository}'",
            "api.runner.clone_url",
            "user name or password",
        ),
        (
            "[api.runner]\nclone_url = 'ssh2://x:secret@example.org/{repository}'",
            "api.runner.clone_url",
            "user name or password",
        ),
        (
            "[api.runner]\nclone_url = 'ssh://x:secret@example.org/{repository}'",
            "api.runner.clone_url",
            "user name or password",
        ),
        (
            "[api.runner]\nclone_url = 'https://example.org/{repository}.git?token=secret'",
            "api.runner.clone_url",
            "a query",
        ),
    ],
)
def test_a_mistake_is_reported_with_its_place_and_without_secrets(
    tmp_path: Path, text: str, place: str, what: str
) -> None:
    problem = problems(tmp_path, text)[0]
    assert problem.where.endswith((f"scheduler.toml: {place}", f"scheduler.toml: {place}.url"))
    assert what in problem.what
    assert problem.remedy
    assert "secret" not in str(problem)


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git@example.org/{repository}.git",
        "git@example.org:{repository}.git",
        "/srv/git/{repository}.git",
    ],
)
def test_a_users_name_for_ssh_is_no_secret(url: str) -> None:
    assert load(None, {"SCHEDULER_API__RUNNER__CLONE_URL": url}).settings.api.runner.clone_url == url


def test_the_folder_of_the_runs_is_found_from_everywhere() -> None:
    settings = load(None, {"SCHEDULER_API__DATABASE": "sqlite:///here/api.db"}).settings
    assert settings.api.runs_folder == Path.cwd() / "here" / "api.db.runs"


def test_a_mistake_in_a_variable_names_the_variable() -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {"SCHEDULER_API__RUNNER__COMMAND": '["cat"'})
    (problem,) = caught.value.problems
    assert problem.where == "environment SCHEDULER_API__RUNNER__COMMAND: api.runner.command"
    assert "should be a list" in problem.what


def test_a_mistake_is_its_writers_and_not_his_neighbours(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[schedule]\njitter = "1s"', {"SCHEDULER_SCHEDULE__CATCH_UP": "some"})
    assert problem.where == "environment SCHEDULER_SCHEDULE__CATCH_UP: schedule.catch_up"


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    text = """
        [[target]]
        url = "https://A.example/"
        project_id = 1
        max_in_flight = "many"
        [[target]]
        url = "https://a.example:443"
        project_id = "1"
        jitter = "1s"
        [schedule]
        catch_up = "some"
        [log]
        levle = "info"
        [api]
        database = "sqlite:////var/lib/scheduler/../scheduler/scheduler.db"
    """
    found = problems(
        tmp_path, text, {"SCHEDULER_SERVER__LISTEM": "x", "SCHEDULER_DAEMON__DRAIN_TIMEOUT": "25"}
    )
    assert sorted(problem.where.rpartition(" ")[2] for problem in found) == [
        "SCHEDULER_SERVER__LISTEM",
        "api.database",
        "daemon.drain_timeout",
        "log.levle",
        "schedule.catch_up",
        "target[0].max_in_flight",
        "target[1]",
        "target[1].jitter",
        "target[1].name",
    ]


@pytest.mark.parametrize(
    "second",
    [
        'url = "https://A.EXAMPLE:443/"\nproject_id = "1"',
        'url = "https://a.example"\nproject_id = 1',
        'url = "https://a.example"\nproject_id = "01"',
    ],
)
def test_two_targets_that_are_one_are_refused(tmp_path: Path, second: str) -> None:
    (problem,) = problems(tmp_path, f'{TARGET}[[target]]\nname = "b"\n{second}')
    assert "same URL and project as target[0]" in problem.what


@pytest.mark.parametrize(
    "second", ['url = "https://b.example"\nproject_id = "1"', 'url = "https://a.example"\nproject_id = "2"']
)
def test_two_apis_or_two_projects_are_two_targets(tmp_path: Path, second: str) -> None:
    assert len(read(tmp_path, f'{TARGET}[[target]]\nname = "b"\n{second}').settings.targets) == 2


@pytest.mark.parametrize(
    "project", ['"@current"', '""', '"a"', "0", "-1", "true", "1.5", '"1/../2"', "9223372036854775808"]
)
def test_a_project_is_a_number(tmp_path: Path, project: str) -> None:
    (problem,) = problems(tmp_path, f'[[target]]\nurl = "https://a.example"\nproject_id = {project}')
    assert problem.where.endswith("target[0].project_id")


def test_the_keys_own_project_is_refused_because_it_changes_with_the_key(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[[target]]\nurl = "https://a.example"\nproject_id = "@current"')
    assert "follows the key" in problem.what


def test_a_file_that_is_no_toml_is_reported_with_the_other_layers_mistakes(tmp_path: Path) -> None:
    first, second = problems(
        tmp_path, "[schedule\n", {"SCHEDULER_LOG__LEVEL": "loud", "SCHEDULER_TARGET__NAME": "a"}
    )
    assert "is not TOML" in first.what
    assert "line 1" in first.what
    assert second.where == "environment SCHEDULER_LOG__LEVEL: log.level"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000, b"a = 0x" + b"f" * 9000, b"\0"]
)
def test_no_content_of_a_file_is_more_than_a_mistake(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "scheduler.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError):
        load(file, {})


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "NaN", '{"a": 1}', "\ud800", "null"])
@pytest.mark.parametrize(
    "variable",
    ["SCHEDULER_API__GITHUB_INTEGRATIONS", "SCHEDULER_TARGET__MAX_IN_FLIGHT", "SCHEDULER_API__RUNNER"],
)
def test_no_content_of_a_variable_is_more_than_a_mistake(variable: str, text: str) -> None:
    with pytest.raises(SettingsError):
        load(None, {variable: text})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.toml"
    file.write_bytes(b'\xef\xbb\xbf[log]\nlevel = "debug"\n')
    assert load(file, {}).settings.log.level == "debug"


def test_an_empty_node_is_the_host_name(tmp_path: Path) -> None:
    assert (
        read(tmp_path, "").settings.daemon.node
        == read(tmp_path, '[daemon]\nnode = ""').settings.daemon.node
        != ""
    )


def test_effective_settings_are_json_and_show_what_an_override_sets_alone(tmp_path: Path) -> None:
    configuration = read(tmp_path, '[[override]]\nautomation = "x"\nstart_within = "auto"\n')
    shown = {one.path: one.value for one in configuration.list_effective()}
    json.dumps(list(shown.values()))
    assert {path[2]: found for path, found in shown.items() if path[0] == "override"} == {
        "automation": "x",
        "start_within": "auto",
    }
    assert shown["schedule", "stale_limit"] == "1d"
    assert configuration.settings.schedule.stale_limit == timedelta(hours=24)
