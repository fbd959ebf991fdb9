"""Changes that wait for approvals: what is asked, how it goes on, whose approval counts."""
