"""Schedules, occurrences and outcomes as pure values and functions, without a clock and without I/O."""
