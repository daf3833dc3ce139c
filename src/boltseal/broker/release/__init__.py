"""Releasing one layer's private options: once, to whom a policy allows it, and written down."""
