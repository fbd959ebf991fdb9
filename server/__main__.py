"""Run the `flagstaff` command by `python -m server`."""

from server.cli.main import main

main()
