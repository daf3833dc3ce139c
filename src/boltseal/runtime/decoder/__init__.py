"""containerd's stream processor: one encrypted layer in, the plain layer out."""
