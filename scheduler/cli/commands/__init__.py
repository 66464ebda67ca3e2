"""One module for each command. Only click is imported with the modules; a command imports the rest."""
