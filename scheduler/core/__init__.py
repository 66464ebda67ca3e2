"""What a schedule, an occurrence and an outcome are: pure values and functions, without a clock and without I/O."""
