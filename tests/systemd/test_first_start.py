"""The first start on a machine, with nothing there yet."""

from tests.operated import until
from tests.systemd.services import API, DAEMON, Services


def test_the_daemon_is_up_on_a_first_boot_with_the_api_down_and_recovers_when_it_comes(
    services: Services,
) -> None:
    services.configure()
    services.start_api()
    services.systemctl("stop", API)
    services.systemctl("start", DAEMON)  # which comes back when it is up
    assert services.show(DAEMON, "ActiveState") == "active"
    assert services.page("/readyz")[0] == 503
    assert services.show(DAEMON, "StatusText").startswith("not ready: ")
    services.systemctl("start", API)
    services.ready()
    until(
        lambda: services.show(DAEMON, "StatusText") == "1 target, 0 occurrences open, next fire never",
        "the status to say so",
    )
    assert services.show(DAEMON, "NRestarts") == "0"
