"""The evaluation protocol of flagd."""
