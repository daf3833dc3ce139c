"""Benchmarks: us and the peer in turn, in one run, on the same machine."""
