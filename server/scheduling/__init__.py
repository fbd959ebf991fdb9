"""Timed work: the only room that may import APScheduler."""
