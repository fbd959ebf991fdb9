"""Values and decisions: no clock, chance, log, file, socket, thread or database in this room."""
