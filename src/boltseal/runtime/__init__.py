"""Hosts that run images: runtimes, bundles, and the keys they find."""
