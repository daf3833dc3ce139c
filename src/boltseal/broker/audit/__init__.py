"""The audit: what every link of the chain says, and how one hangs on the one before it."""
