"""Flagstaff's own API."""
