"""If this then that: rules as data, and what has them done."""
