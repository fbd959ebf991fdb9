"""Print a database's address as messages may show it."""

from sqlalchemy import URL


def shown(url: URL) -> str:
    """Without its password, wherever that stands."""
    secret = {name: "***" for name in url.query if "password" in name.lower() or name.lower() == "passfile"}
    return url.update_query_dict(secret).render_as_string(hide_password=True)
