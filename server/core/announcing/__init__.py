"""What is told to others: the types of events, and the data that each carries."""
