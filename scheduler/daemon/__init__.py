"""The moving parts: what polls, plans, sends and follows. `ports` is all they know of the world."""
