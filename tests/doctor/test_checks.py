"""All checks together."""

from scheduler.doctor.checks import CHECKS, run_checks
from scheduler.doctor.facts import Facts
from scheduler.doctor.findings import CheckFinding
from tests.doctor.support import HEALTHY
from tests.doctor.variants import FAULT, told


def test_of_a_healthy_installation_every_check_says_that_all_is_well() -> None:
    assert told(HEALTHY) == []
    assert [each.check for each in run_checks(HEALTHY)] == sorted(
        (each.check for each in run_checks(HEALTHY)), key=[name for name, _ in CHECKS].index
    )
    assert {each.check for each in run_checks(HEALTHY)} == {name for name, _ in CHECKS}


def test_a_check_that_fails_keeps_no_other_from_its_own() -> None:
    def fail(_: Facts) -> list[CheckFinding]:
        raise ZeroDivisionError("oh")

    (first, _), *others = CHECKS
    found = list(run_checks(HEALTHY, [(first, fail), *others]))
    assert (found[0].status, found[0].finding) == (FAULT, "the check itself failed: ZeroDivisionError: oh")
    assert {each.check for each in found} == {name for name, _ in CHECKS}
