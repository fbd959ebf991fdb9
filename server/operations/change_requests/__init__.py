"""What can be done with change requests: look, review, apply."""
