"""Version 1 of the raw views."""
