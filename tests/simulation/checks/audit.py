"""`scheduler audit` on what a simulation left behind: it finds nothing that the simulation does not know
of.
"""

from datetime import datetime, timedelta

from scheduler.audit.findings import BAD_KINDS, AuditFinding
from scheduler.audit.runner import Audit, AuditRequest
from tests.simulation.evidence import Check, Evidence
from tests.simulation.violation import Violation


def the_audit_is_clean(evidence: Evidence) -> Check:
    """Nothing is missing, double or unexplained, but for what the API could not tell and the ledger says
    so.
    """
    world = evidence.world
    # Zone data that lacked a zone for a while evaluate it now. A wrong clock dated observations wrongly.
    if not world.is_audited or evidence.was_set or any(each.zones_missing for each in world.configured):
        return
    assert world.ended is not None
    path = world.folder / "audited.db"
    evidence.file.save(path)
    latest = world.ended + timedelta(days=1)
    wanted = AuditRequest(since=world.setting.begin - timedelta(days=1), until=world.ended, now=latest)
    audit = Audit(
        path, wanted, processes=1
    )  # a soak plays on all cores, and its processes may begin no others
    known = _known(evidence)
    for finding in audit.run():
        if finding.kind in BAD_KINDS and _about(finding) not in known:
            yield Violation(
                "audit", f"{finding.kind}: {finding.text}", finding.automation_id, finding.scheduled_for
            )


def _about(finding: AuditFinding) -> tuple[str, str, datetime | None]:
    return finding.target, finding.automation_id, finding.scheduled_for


def _known(evidence: Evidence) -> set[tuple[str, str, datetime | None]]:
    """What is open or could not be found out, and late doubles: that is so, and told."""
    known: set[tuple[str, str, datetime | None]] = set()
    for row in evidence.rows:
        if row.outcome in {None, "unresolved"}:
            known.add((row.target, row.automation_id, row.scheduled_for))
    for (target, run_id), run in evidence.run_rows.items():
        if run["doubles"] is not None:
            known.add((target, run["automation_id"], datetime.fromisoformat(run["doubles"])))
            known.add((target, run_id, None))
    return known
