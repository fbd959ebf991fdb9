"""When things happen again: recurrences, and the instants that they come to."""
