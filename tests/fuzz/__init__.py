"""Fuzzing of everything that reads what others wrote; docs/fuzzing.md says how to run it."""
