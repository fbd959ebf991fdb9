"""What is measured: metrics, observations, and the sums that are kept of them."""
