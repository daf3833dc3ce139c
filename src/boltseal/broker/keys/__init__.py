"""Keys: what makes them, what seals their private halves, and what their versions may do."""
