"""Carriers of the handler table: each door serves the same table over one transport."""
