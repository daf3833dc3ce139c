"""What works on a host and what to do about the rest: a small module for each subject."""
