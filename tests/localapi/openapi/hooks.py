"""What schemathesis cannot read in a schema: which texts the two formats stand for, and which GitHub
integration this server knows.
"""

import operator
from functools import reduce
from typing import Any
from zoneinfo import available_timezones

import schemathesis
from hypothesis import strategies as st

INTEGRATION = 7


def _field(least: int, most: int) -> st.SearchStrategy[str]:
    """A field of a cron expression with these values; no day after the 28th, so that there is such a day in
    every month.
    """
    numbers = st.integers(least, most)
    ranges = st.tuples(numbers, numbers).map(sorted).map(lambda ends: f"{ends[0]}-{ends[1]}")
    forms = (st.just("*"), numbers.map(str), ranges, st.integers(1, most).map("*/{}".format))
    return reduce(operator.or_, forms)


schemathesis.openapi.format(
    "cron", st.tuples(_field(0, 59), _field(0, 23), _field(1, 28), _field(1, 12), _field(0, 6)).map(" ".join)
)
schemathesis.openapi.format("iana-timezone", st.sampled_from(sorted(available_timezones())))


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw: dict[str, Any]) -> None:
    """Narrow the schema to what is so here. A text that has a format cannot be steered to a length, so the
    length is not asked for.
    """
    del context
    schemas = raw["components"]["schemas"]
    schemas["GithubIntegration"] = {"enum": [INTEGRATION, str(INTEGRATION), "", None]}
    for form in ("NewAutomationForm", "ChangesForm"):
        schemas[form]["properties"]["github_integration"] = {"enum": [str(INTEGRATION), ""]}
    for name in ("CronExpression", "Timezone"):
        del schemas[name]["maxLength"]
