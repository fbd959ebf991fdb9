"""Deliver events to other systems; a library that never imports server."""
