"""The commands `flagstaff release ...`: flags that are let out step by step."""

from typing import Final

from server.cli.options import group
from server.cli.release import drawing, looking, moving, templates
from server.cli.remote import ABOUT_SERVERS

HELP: Final = f"""Let flags out step by step, and take them back when something is wrong.

{ABOUT_SERVERS}

\b
  flagstaff release create new-checkout everybody --every 1h --start       1, 2, 5, 10, 25, 50, 100 %
  flagstaff release status rel_0123456789 --watch
  flagstaff release pause rel_0123456789
  flagstaff release roll-back rel_0123456789 --reason "Errors in checkout"
"""

app = group(HELP)
app.command("create", help=drawing.CREATE_HELP)(drawing.create)
app.command("canary", help=drawing.CANARY_HELP)(drawing.canary)
app.command("blue-green", help=drawing.BLUE_GREEN_HELP)(drawing.blue_green)
app.command("list", help=looking.LIST_HELP)(looking.list_releases)
app.command("status", help=looking.STATUS_HELP)(looking.status)
app.command("log", help=looking.LOG_HELP)(looking.log)
for _name, _command in moving.COMMANDS.items():
    app.command(_name, help=moving.HELPS[_name])(_command)
app.add_typer(templates.app, name="template")
