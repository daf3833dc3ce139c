"""JOSE for key wrapping: the only room that imports the JOSE library."""
