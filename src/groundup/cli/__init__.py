"""The command line: one thin view for each command."""
