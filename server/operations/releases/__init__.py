"""Releases: drawn up, moved by people and by time, taken back, looked at."""
