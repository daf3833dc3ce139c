"""The layer cipher and its options. Nothing here knows how the layer key is wrapped."""
