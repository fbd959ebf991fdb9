"""If this then that: what is done by itself when something happens."""
