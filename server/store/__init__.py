"""The database: tables, migrations, the one door for change, and queries by noun."""
