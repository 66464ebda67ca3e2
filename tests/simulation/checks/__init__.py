"""What must hold after every simulation, whatever was drawn. Each rule is a function from the evidence to its violations."""

from collections.abc import Callable, Sequence
from typing import Final

from tests.simulation.checks import auditing, completeness, lists, load, outcomes, process, promptness, runs, telling
from tests.simulation.evidence import Check, Evidence
from tests.simulation.violation import Violation
from tests.simulation.world import World

RULES: Final[Sequence[Callable[[Evidence], Check]]] = (
    process.no_fault_of_ours,
    process.everything_settles,
    runs.at_most_one_run,
    runs.outcomes_name_the_run_that_was_started,
    runs.foreign_runs_are_known,
    runs.what_was_shown_is_on_record,
    completeness.every_implied_occurrence_has_a_row,
    completeness.no_row_without_a_version_that_implied_it,
    completeness.the_definitions_of_the_api_are_honoured,
    completeness.every_kept_ledger_is_complete,
    completeness.no_gap_is_left,
    outcomes.reasons_are_true,
    promptness.nothing_before_its_time,
    promptness.nothing_that_was_stopped,
    promptness.nothing_that_was_paused,
    promptness.what_had_its_chance_was_sent,
    promptness.what_is_overdue_is_told,
    load.the_budget_is_kept,
    load.polls_go_on,
    load.the_budget_is_used,
    load.the_first_precedes_the_second,
    load.no_automation_loses_more_than_the_excess,
    load.what_fits_is_not_lost,
    lists.removals_are_confirmed,
    lists.nothing_fires_while_it_is_absent,
    lists.few_questions_per_reading,
    lists.only_what_the_api_had_is_sent,
    telling.events_agree_with_the_ledger,
    telling.metrics_agree_with_the_events,
    telling.the_log_agrees_with_the_events,
    telling.history_agrees_with_the_ledger,
    auditing.the_audit_is_clean,
)


def violations(world: World) -> list[Violation]:
    """Everything that must not be and is."""
    evidence = Evidence(world)
    return [*world.violations, *(violation for rule in RULES for violation in rule(evidence))]
