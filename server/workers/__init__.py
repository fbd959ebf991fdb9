"""Run a server as several processes on the same ports: a master that serves nothing, and its workers."""
