"""The probes: each determines facts about one part of an installation."""
