"""The snapshots that are being served: loading them, holding them, keeping the last good ones."""
