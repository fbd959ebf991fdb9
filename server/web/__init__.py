"""What is served over HTTP; empty until OFREP, hooks, metrics and the dashboard arrive."""
