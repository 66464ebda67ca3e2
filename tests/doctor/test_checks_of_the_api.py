"""The checks of the keys and of the way to an API."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from scheduler.doctor.facts import Facts, Refusal, UnknownFact
from scheduler.doctor.findings import Status
from scheduler.ledger.targets import LedgerTarget
from tests.doctor.support import (
    API,
    FILE,
    HEALTHY,
    KEY,
    NOW,
    STATUS,
    TARGET,
    WAY,
    api,
    file,
    record,
    settings,
    target,
    way,
)
from tests.doctor.variants import (
    FAULT,
    MAIN,
    NOTICE,
    WARNING,
    Case,
    behind_a_proxy,
    daemon_of,
    expect_only,
    is_consequence,
    keyless,
    told,
    under,
    with_ids,
)

NOT_FOUND = Refusal(
    "GET https://… answered HTTP 404: Not found.; check the url and the project_id of target main",
    404,
    held=True,
)


SCOPE = "answered HTTP 403: API key missing required scope 'task:{}'; give the key of target main that scope"


CASES: Mapping[str, Sequence[Case]] = {
    "key": [
        (
            "no key",
            keyless(
                "target main: no key; key_file is not set, and there is neither…; set one of the three",
                daemon={**STATUS, "targets": []},
            ),
            FAULT,
            MAIN,
            "no key; key_file is not set",
        ),
        (
            "a key of the unit's",
            keyless("target main: no key; …; set one of the three"),
            NOTICE,
            MAIN,
            "the running daemon has one that works",
        ),
        (
            "a key for all to read",
            target(key=replace(KEY, file=file("/etc/scheduler/key", mode=0o644))),
            WARNING,
            MAIN,
            "mode 0644",
        ),
        (
            "a key of root's",
            target(key=replace(KEY, file=file("/etc/scheduler/key", uid=0))),
            WARNING,
            MAIN,
            "scheduler, who has the ledger, may not read the file /etc/scheduler/key of root",
        ),
        ("another kind of key", target(key=replace(KEY, kind="phc_")), FAULT, MAIN, "a project's public key"),
        (
            "a proxy's password for everybody",
            behind_a_proxy(0o644),
            WARNING,
            str(FILE),
            "may read the password of the proxy of target main",
        ),
        ("a key in the file", replace(HEALTHY, holds_key=True), FAULT, str(FILE), "seems to hold a key"),
    ],
    "reachability": [
        (
            "trust from outside",
            replace(HEALTHY, environment={"SSL_CERT_FILE": "/ca.pem"}),
            NOTICE,
            "environment",
            "SSL_CERT_FILE",
        ),
        (
            "a proxy",
            replace(HEALTHY, environment={"HTTPS_PROXY": "http://user:secret@proxy"}),
            NOTICE,
            "environment",
            "HTTPS_PROXY has no effect",
        ),
        (
            "in the clear by a proxy",
            way(tls=False, host="127.0.0.1", proxy="http://proxy:3128", expires=None),
            WARNING,
            MAIN,
            "sent to 127.0.0.1 without TLS",
        ),
        ("in the clear", way(tls=False, expires=None), WARNING, MAIN, "without TLS"),
        (
            "ends soon",
            way(expires=NOW + timedelta(days=13)),
            WARNING,
            MAIN,
            "by An Authority, ends at 2026-12-06T19:20:30Z",
        ),
        ("slow", api(slowest_seconds=16.0), WARNING, MAIN, "took 16.0 s of the 30 s allowed"),
    ],
    "scopes": [
        (
            "may not write",
            api(may_write=False, write_refusal=Refusal(SCOPE.format("write"), 403, held=True)),
            FAULT,
            MAIN,
            "may not start runs",
        ),
        (
            "may write?",
            api(may_write=None, write_refusal=Refusal("answered HTTP 500", 500)),
            WARNING,
            MAIN,
            "unknown whether the key may start runs: answered HTTP 500",
        ),
    ],
}


@pytest.mark.parametrize(("check", "facts", "status", "subject", "words"), with_ids(CASES))
def test_what_is_wrong_is_found_and_nothing_else(
    check: str, facts: Facts, status: Status, subject: str, words: str
) -> None:
    expect_only(check, facts, status, subject, words)


def test_a_proxy_whose_password_is_in_a_file_for_few_is_no_finding() -> None:
    facts = replace(behind_a_proxy(0o640), environment={"HTTPS_PROXY": "http://other"})
    assert told(facts) == []


UNREACHABLE: Sequence[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (
        "no such name",
        {"broken": "name", "error": "name or service not known"},
        {},
        "the name api.example.org cannot be resolved",
        "correct the target's url",
    ),
    (
        "nobody there",
        {"broken": "connection", "error": "connection refused"},
        {},
        "(192.0.2.1): connection refused",
        "no firewall",
    ),
    (
        "expired",
        {"broken": "tls", "error": "certificate has expired", "verify_code": 10},
        {},
        "certificate has expired",
        "renew the API's certificate",
    ),
    (
        "too early",
        {"broken": "tls", "error": "not yet valid", "verify_code": 9},
        {},
        "not yet valid",
        "clock is right",
    ),
    (
        "signed by itself",
        {"broken": "tls", "error": "self-signed certificate", "verify_code": 18},
        {},
        "self-signed",
        "set ca_file on the target",
    ),
    (
        "of an unknown authority",
        {"broken": "tls", "error": "unable to get local issuer certificate", "verify_code": 20},
        {},
        "local issuer",
        "for a private CA set ca_file",
    ),
    (
        "of another authority",
        {"broken": "tls", "error": "unable…", "verify_code": 20},
        {"ca_file": "/ca.pem"},
        "unable",
        "add the authority that signed it to /ca.pem",
    ),
    (
        "for another host",
        {"broken": "tls", "error": "Hostname mismatch", "verify_code": 62},
        {},
        "Hostname mismatch",
        "as the certificate has it",
    ),
    (
        "the name of a proxy",
        {"broken": "name", "proxy": "http://***@proxy:3128", "error": "unknown"},
        {},
        "the name proxy of its proxy cannot be resolved",
        "correct the target's proxy",
    ),
    (
        "no proxy there",
        {"broken": "connection", "proxy": "http://***@proxy:3128", "error": "refused"},
        {},
        "no connection to its proxy http://***@proxy:3128: refused",
        "check that the proxy runs",
    ),
    (
        "a proxy that refuses",
        {"broken": "proxy", "proxy": "http://***@proxy:3128", "error": "it answered HTTP 407"},
        {},
        (
            "its proxy http://***@proxy:3128 made no connection to api.example.org port 443: it "
            "answered HTTP 407"
        ),
        "allow CONNECT to api.example.org:443",
    ),
    (
        "a proxy that reads TLS",
        {
            "broken": "tls",
            "proxy": "http://proxy:3128",
            "error": "self-signed certificate in certificate chain",
            "verify_code": 19,
        },
        {},
        "TLS to api.example.org through the proxy http://proxy:3128 failed",
        "with the authority of the proxy",
    ),
    (
        "no TLS",
        {"broken": "tls", "error": "wrong version number"},
        {},
        "wrong version number",
        "or write http://",
    ),
    (
        "no CA",
        {"broken": "tls", "error": "cannot be read"},
        {"ca_file": "/ca.pem"},
        "cannot be read",
        "/ca.pem holds certificates in PEM form",
    ),
]


@pytest.mark.parametrize(
    ("step", "setting", "words", "advice"),
    [case[1:] for case in UNREACHABLE],
    ids=[case[0] for case in UNREACHABLE],
)
def test_the_step_that_fails_is_told_with_what_mends_it(
    step: dict[str, Any], setting: dict[str, Any], words: str, advice: str
) -> None:
    broken = target(connectivity=replace(WAY, **step), api=UnknownFact("it cannot be reached"))
    facts = under(broken, settings({**TARGET, **setting}))
    (found,) = [each for each in told(facts) if not is_consequence(each, facts)]
    assert (found.check, found.status) == ("reachability", FAULT)
    assert words in found.finding
    assert advice in found.advice


REFUSED: Sequence[tuple[str, Refusal, str, Sequence[str], str]] = [
    ("no such project", NOT_FOUND, TARGET["url"], ["reachability"], "check the url and the project_id"),
    ("a path in the url", NOT_FOUND, TARGET["url"] + "/api", ["reachability"], "most APIs have no path"),
    (
        "moved",
        Refusal(
            "… answered HTTP 301; it redirects to https://b; set the url of target main to where "
            "the API really is",
            301,
            held=True,
        ),
        TARGET["url"],
        ["reachability"],
        "set the url",
    ),
    (
        "a wrong key",
        Refusal("… answered HTTP 401: …; check the key of target main", 401, held=True),
        TARGET["url"],
        ["reachability"],
        "check the key",
    ),
    (
        "no scope at all",
        Refusal(SCOPE.format("read"), 403, held=True),
        TARGET["url"],
        ["reachability", "scopes"],
        "give the key",
    ),
    ("throttled", Refusal("… answered HTTP 429", 429), TARGET["url"], ["reachability"], "a key of its own"),
    (
        "broken",
        Refusal("… answered HTTP 502", 502),
        TARGET["url"],
        ["reachability"],
        "check the API, and try again",
    ),
]


@pytest.mark.parametrize(
    ("refusal", "url", "checks", "advice"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_an_answer_that_is_no_list_is_a_fault(
    refusal: Refusal, url: str, checks: Sequence[str], advice: str
) -> None:
    new = settings({**TARGET, "url": url})
    facts = under(record(targets=(LedgerTarget("main", url, "1", NOW),)), new)
    facts = replace(
        facts,
        daemon=daemon_of(facts),
        targets=(
            replace(facts.targets[0], api=replace(API, snapshot=None, refusal=refusal, may_write=None)),
        ),
    )
    found = [each for each in told(facts) if each.status is not NOTICE]
    assert [each.check for each in found] == checks
    assert {each.status for each in found} == {FAULT}
    assert advice in found[0].advice
