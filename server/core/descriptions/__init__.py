"""Say in words what changed: lines that people read, each with the place and the values for machines."""
