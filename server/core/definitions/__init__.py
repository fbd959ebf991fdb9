"""Definitions in and out: JSON of ours and flagd's files, checked strictly with every problem's path."""
