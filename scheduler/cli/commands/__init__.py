"""One module for each command. Only click is imported with them; what a command needs to run is imported when it runs."""
