"""The commands `flagstaff flag ...`: manage the flags of a running server."""

from typing import Final

from server.cli.flag import configs, lifecycle, looking, rules, stale, transfers
from server.cli.options import group
from server.cli.remote import ABOUT_SERVERS

HELP: Final = f"""Manage the flags of a running server.

\b
  flagstaff flag list                                     what is there, and where it is on
  flagstaff flag create new-ui --on staging               a boolean flag, on in staging
  flagstaff flag rule add new-ui beta --segment beta --share 10% --serve on
  flagstaff flag kill new-ui --reason "The bank is down"

{ABOUT_SERVERS}
"""

app = group(HELP)
for module in (looking, lifecycle, configs, transfers):
    module.register(app)
app.add_typer(rules.app, name="rule")
app.add_typer(stale.app, name="stale")
app.add_typer(configs.target_app, name="target")
app.add_typer(configs.prerequisite_app, name="prerequisite")
app.add_typer(lifecycle.variant_app, name="variant")
