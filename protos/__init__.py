"""The wire contracts as Protocol Buffers, with the stubs generated from them."""
