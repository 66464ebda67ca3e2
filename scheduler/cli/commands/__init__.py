"""One module for each command. Only click is imported with the modules; a running command imports the rest."""
