"""Version 1 of the evaluation protocol of flagd."""
