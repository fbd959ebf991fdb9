"""Deliver what was announced: make deliveries of it, send them, and forget them in time."""
