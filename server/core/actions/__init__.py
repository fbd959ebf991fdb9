"""Name what automation tools may have done here, and what each of it needs to be told."""
