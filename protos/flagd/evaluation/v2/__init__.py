"""Version 2 of the evaluation protocol of flagd."""
