"""Flagstaff's server: evaluates feature flags and runs their progressive delivery."""
