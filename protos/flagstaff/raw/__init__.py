"""Views of requests that the server reads without decoding the context."""
