"""The `flagstaff` command, one file a command group."""
