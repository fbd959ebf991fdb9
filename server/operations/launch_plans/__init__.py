"""Launch plans: made and changed by people, carried on by themselves."""
