"""Cron schedules: expressions, time zones, clock changes, and descriptions for people."""
