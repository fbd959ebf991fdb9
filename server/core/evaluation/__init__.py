"""Evaluation: lower a definition to flagd's form, compile it, resolve a context against it."""
