"""The gRPC services as one table of handlers, path to function, bytes in and bytes out."""
