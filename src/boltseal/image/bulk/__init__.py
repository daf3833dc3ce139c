"""Many images in one run: lists and patterns, a journal to go on from, and who does the work."""
