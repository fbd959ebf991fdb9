"""What a change would do to evaluations before it is made: who moves, which laws break, what would be missing."""
