"""The wire contract of OpenFeature's flagd, with its own packages, names and numbers."""
