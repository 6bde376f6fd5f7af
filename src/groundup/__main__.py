"""Run the command line as `python -m groundup`."""

from groundup.cli.main import script

script()
