"""Launch plans: what is to change in several flags and environments, on one timeline relative to a launch."""
