"""Flags that are let out step by step, with gates between the steps, and taken back when something is wrong."""
