"""Bounded, verified and pipelined input and output. Nothing here knows about images or keys."""
