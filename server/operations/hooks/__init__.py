"""Manage webhooks: who is told of what, and what became of each delivery."""
