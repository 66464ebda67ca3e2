"""What must hold after every simulation, whatever was drawn. Each rule is a function from the evidence to its
violations.
"""

from collections.abc import Callable, Sequence
from typing import Final

from tests.simulation.checks import (
    audit,
    commands,
    completeness,
    fairness,
    lists,
    load,
    observability,
    outcomes,
    process,
    promptness,
    recorded_waits,
    restoration,
    runs,
)
from tests.simulation.evidence import Check, Evidence
from tests.simulation.violation import Violation
from tests.simulation.world import World

RULES: Final[Sequence[Callable[[Evidence], Check]]] = (
    process.no_fault_of_ours,
    process.everything_settles,
    process.readiness_is_true,
    runs.at_most_one_run,
    runs.outcomes_name_the_run_that_was_started,
    runs.foreign_runs_are_known,
    runs.what_was_shown_is_on_record,
    completeness.every_implied_occurrence_has_a_row,
    completeness.no_row_without_a_version_that_implied_it,
    completeness.the_definitions_of_the_api_are_honoured,
    completeness.edits_count_from_their_time,
    completeness.every_kept_ledger_is_complete,
    completeness.no_gap_is_left,
    outcomes.reasons_are_true,
    promptness.nothing_before_its_time,
    promptness.nothing_that_was_stopped,
    promptness.nothing_that_was_paused,
    promptness.what_had_its_chance_was_sent,
    promptness.what_is_overdue_is_told,
    promptness.a_held_target_is_probed,
    promptness.nothing_while_the_api_asks_to_wait,
    load.the_budget_is_kept,
    load.polls_go_on,
    load.the_budget_is_used,
    fairness.the_first_precedes_the_second,
    fairness.every_fourth_goes_to_the_longest_waiting,
    load.no_more_are_under_way_than_allowed,
    fairness.no_automation_loses_more_than_the_excess,
    fairness.what_fits_is_not_lost,
    fairness.a_shortage_is_told,
    lists.removals_are_confirmed,
    lists.nothing_fires_while_it_is_absent,
    lists.nothing_that_is_gone_is_sent,
    lists.nothing_that_denies_itself_is_sent,
    lists.what_a_list_lacks_or_cannot_name_is_told,
    lists.few_questions_per_reading,
    lists.only_what_the_api_had_is_sent,
    commands.a_wake_leads_to_a_poll,
    commands.wakes_cause_few_polls,
    commands.what_a_command_deleted_is_gone_at_once,
    restoration.what_ran_since_the_backup_alarms_nobody,
    restoration.a_restoration_is_told_once,
    restoration.nothing_runs_again_after_a_restoration,
    restoration.what_was_due_since_the_backup_is_skipped,
    recorded_waits.recorded_waits_are_true,
    recorded_waits.what_waited_long_has_its_causes,
    observability.events_agree_with_the_ledger,
    observability.metrics_agree_with_the_events,
    observability.the_log_agrees_with_the_events,
    observability.history_agrees_with_the_ledger,
    audit.the_audit_is_clean,
)

WITHOUT_BACKUP: Final = frozenset(
    {
        completeness.edits_count_from_their_time,
        completeness.the_definitions_of_the_api_are_honoured,
        runs.at_most_one_run,
        runs.outcomes_name_the_run_that_was_started,
        runs.what_was_shown_is_on_record,
        outcomes.reasons_are_true,
        promptness.nothing_before_its_time,  # a row that was made again may be due at another time
        promptness.nothing_that_was_paused,  # the pause may be younger than the backup
        recorded_waits.recorded_waits_are_true,
        recorded_waits.what_waited_long_has_its_causes,
        observability.events_agree_with_the_ledger,
        audit.the_audit_is_clean,
    }
)
"""Rules that do not hold of a restored ledger, which lacks all events since its backup.

`restoration` has rules in their place.
"""


def violations(world: World) -> list[Violation]:
    """Everything that must not be and is."""
    evidence = Evidence(world)
    rules = (rule for rule in RULES if not world.restorations or rule not in WITHOUT_BACKUP)
    return [*world.violations, *(violation for rule in rules for violation in rule(evidence))]
