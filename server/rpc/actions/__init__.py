"""Do what automation tools ask for by a name, through the handlers of the other services."""
