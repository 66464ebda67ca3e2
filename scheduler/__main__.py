"""``python -m scheduler``: the same as the command ``scheduler``."""

from scheduler.cli import main

main()
