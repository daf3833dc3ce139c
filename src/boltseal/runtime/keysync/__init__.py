"""Copy keys into the folder that a container runtime reads."""
