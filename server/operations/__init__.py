"""What the service can do, one noun a file; thin, and the same for every transport."""
