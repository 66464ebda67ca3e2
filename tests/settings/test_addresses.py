"""URLs, addresses and databases as text."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.proxy import Proxy
from scheduler.settings.addresses import (
    SocketAddress,
    parse_api_url,
    parse_database_url,
    parse_listen,
    parse_proxy,
)
from scheduler.settings.problems import InvalidSetting


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://us.posthog.com", "https://us.posthog.com"),
        ("https://us.posthog.com/", "https://us.posthog.com"),
        ("HTTPS://US.PostHog.com:443", "https://us.posthog.com"),
        ("http://127.0.0.1:80/", "http://127.0.0.1"),
        ("http://127.0.0.1:8040", "http://127.0.0.1:8040"),
        ("http://[::1]:8040/", "http://[::1]:8040"),
        ("https://example.org/posthog/", "https://example.org/posthog"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_one_api_has_one_url(text: str, normal: str) -> None:
    assert parse_api_url(text) == normal
    assert parse_api_url(normal) == normal


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("", "is empty"),
        (5, "should be a URL"),
        ("us.posthog.com", "should begin with https:// or http://"),
        ("ftp://us.posthog.com", "should begin with https:// or http://"),
        ("https://", "not a valid URL"),
        ("https://a b", "space"),
        ("https://a\n.example", "space or a control"),
        ("https://a.example:99999", "not a valid URL"),
        ("https://user:hunter2@a.example", "user name or password"),
        ("https://user@a.example", "user name or password"),
        ("https://:@a.example", "user name or password"),
        ("https://a.example/?x=hunter2", "query"),
        ("https://a.example/#x", "fragment"),
    ],
)
def test_what_is_no_base_url_is_refused_without_repeating_it(value: object, what: str) -> None:
    with pytest.raises(InvalidSetting, match=what) as caught:
        parse_api_url(value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        ("127.0.0.1:9464", SocketAddress("127.0.0.1", 9464), "127.0.0.1:9464"),
        ("localhost:0", SocketAddress("localhost", 0), "localhost:0"),
        ("[::1]:9464", SocketAddress("::1", 9464), "[::1]:9464"),
        ("[0:0::1]:65535", SocketAddress("::1", 65535), "[::1]:65535"),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: SocketAddress, written: str) -> None:
    assert parse_listen(text) == address
    assert str(address) == written


def test_no_address_is_none() -> None:
    assert parse_listen("") is None


@pytest.mark.parametrize(
    "value",
    [
        9464,
        None,
        "localhost",
        ":9464",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "::1:9464",
        "[::g]:1",
        "a b:1",
        "http://a:1",
        "a/b:1",
    ],
)
def test_what_is_no_address_is_refused(value: object) -> None:
    with pytest.raises(InvalidSetting):
        parse_listen(value)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/scheduler/scheduler.db", Path("/var/lib/scheduler/scheduler.db")),
        ("sqlite:///var/scheduler.db", Path("var/scheduler.db")),
        ("sqlite:////tmp/with space.db", Path("/tmp/with space.db")),
    ],
)
def test_a_database_is_three_slashes_and_a_path(url: str, path: Path) -> None:
    assert parse_database_url(url).path == path


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("postgresql://user:hunter2@db/scheduler", "not supported yet"),
        ("postgres://user:hunter2@db/scheduler", "not supported yet"),
        ("postgresql+psycopg://user:hunter2@db/scheduler", "not supported yet"),
        ("/var/lib/scheduler.db", "should begin with sqlite:///"),
        ("sqlite://", "should begin with sqlite:///"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:////var/lib/", "names no file"),
        ("sqlite:////a.db?mode=ro", "more than a path"),
        ("sqlite:////a\0.db", "more than a path"),
        (7, "should be the URL"),
    ],
)
def test_what_is_no_sqlite_file_is_refused_without_repeating_it(value: object, what: str) -> None:
    with pytest.raises(InvalidSetting, match=what) as caught:
        parse_database_url(value)
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_no_text_breaks_a_reader(text: str) -> None:
    for read in (parse_api_url, parse_listen, parse_database_url):
        with contextlib.suppress(InvalidSetting):
            read(text)


@pytest.mark.parametrize(
    ("text", "proxy", "shown"),
    [
        ("http://proxy.example:3128", Proxy("http://proxy.example:3128"), "http://proxy.example:3128"),
        ("HTTP://Proxy.Example/", Proxy("http://proxy.example:80"), "http://proxy.example:80"),
        ("http://[::1]:3128", Proxy("http://[::1]:3128"), "http://[::1]:3128"),
        (
            "http://hunter2:hunter%3A%40%2F2%C3%A4@proxy:8080/",
            Proxy("http://proxy:8080", "hunter2", "hunter:@/2ä"),
            "http://***@proxy:8080",
        ),
        ("http://hunter2@proxy:8080", Proxy("http://proxy:8080", "hunter2"), "http://***@proxy:8080"),
    ],
)
def test_a_proxy_is_shown_without_its_credentials(text: str, proxy: Proxy, shown: str) -> None:
    assert parse_proxy(text) == proxy
    assert str(proxy) == shown
    assert "hunter" not in repr(proxy)


def test_no_proxy_is_the_empty_text() -> None:
    assert parse_proxy("") is None


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (["http://u:hunter2@proxy"], "should be the URL of a proxy"),
        ("proxy:3128", "should begin with http://"),
        ("https://u:hunter2@proxy:3128", "also for a target with https://"),
        ("socks5://u:hunter2@proxy:1080", "should begin with http://"),
        ("http://u:hunter2@proxy:3128/path", "more than the address"),
        ("http://u:hunter2@proxy:3128?x", "more than the address"),
        ("http://u:hunter2@proxy:99999", "not a valid URL"),
        ("http://u:hunter2 @proxy:3128", "space"),
        ("http://u%3Av:hunter2@proxy:3128", "a colon in the name"),
        ("http://u:hunter2%0d%0aX@proxy:3128", "a control character"),
    ],
)
def test_what_is_no_proxy_is_refused_without_repeating_it(value: object, what: str) -> None:
    with pytest.raises(InvalidSetting, match=what) as caught:
        parse_proxy(value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("listen", "url", "answers"),
    [
        ("127.0.0.1:8040", "http://127.0.0.1:8040", True),
        ("127.0.0.1:80", "http://127.0.0.1", True),
        ("[::1]:8040", "http://[::1]:8040", True),
        ("0.0.0.0:8040", "http://127.0.0.1:8040", True),
        ("[::]:8040", "http://vm.example.org:8040", True),
        ("localhost:8040", "http://127.0.0.1:8040", True),
        ("127.0.0.1:8040", "http://localhost:8040", True),
        ("127.0.0.2:8040", "http://127.0.0.1:8040", False),
        ("127.0.0.1:8040", "http://127.0.0.1:8041", False),
        ("0.0.0.0:8040", "http://127.0.0.1:8041", False),
        ("127.0.0.1:8040", "https://127.0.0.1:8040", False),
        ("127.0.0.1:8040", "http://127.0.0.1:8040/posthog", False),
        ("127.0.0.1:8040", "http://us.example.org:8040", False),
    ],
)
def test_which_urls_lead_to_an_address(listen: str, url: str, answers: bool) -> None:
    address = parse_listen(listen)
    assert address is not None
    assert address.is_reached_by(parse_api_url(url)) is answers
