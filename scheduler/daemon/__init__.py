"""Parts of the daemon: polling, planning, sending and tracking. `ports` are their only link to the world."""
