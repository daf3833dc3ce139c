"""One harness for everything that is measured: us and each peer in turn, on the same machine."""
