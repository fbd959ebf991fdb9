"""Print a database's address as messages may show it."""

import re
from typing import Final

from sqlalchemy import URL

_UNNAMED: Final = "the database"


def shown(url: URL) -> str:
    """Without its password, wherever that stands."""
    secret = {name: "***" for name in url.query if "password" in name.lower() or name.lower() == "passfile"}
    return url.update_query_dict(secret).render_as_string(hide_password=True)


def without_address(url: URL, message: str) -> str:
    """One of our messages for those who need not know where the database is: no host, user or path.

    What the driver said stands in brackets behind the address and may name them too, so it goes with it.
    """
    where = re.escape(shown(url))
    return re.sub(rf"{where}(?: \(.*\)(?=; |$))?", _UNNAMED, message, flags=re.DOTALL)
