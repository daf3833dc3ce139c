"""Wrapping layer keys for recipients, and unwrapping them with identities."""
