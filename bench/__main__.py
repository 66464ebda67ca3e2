"""All benchmarks, one after the other."""

import importlib
import sys

NAMES = (
    "evaluate",
    "next_lines",
    "ledger",
    "transport",
    "idle",
    "fire",
    "isolation",
    "downtime",
    "audit",
    "api",
    "clients",
)

for name in NAMES:
    print(f"\n== {name}", flush=True)
    sys.argv[1:] = []
    importlib.import_module(f"bench.{name}").main()
