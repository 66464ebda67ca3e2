"""The composition root: settings go in, running processes come out. Only here do the rooms meet, and only here do observers subscribe."""
