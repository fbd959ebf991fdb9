"""Changes that are made at a time: making and moving schedules, and executing them."""
