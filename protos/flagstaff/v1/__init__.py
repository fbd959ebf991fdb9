"""Version 1 of Flagstaff's own API."""
