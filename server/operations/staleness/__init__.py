"""What flags are of no more use: looked for by the clock, and said by people."""
