"""Keep flags in a database: the one door for change, and queries by noun."""
