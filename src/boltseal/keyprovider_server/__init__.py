"""The key provider protocol, serving side: others use the keys that Boltseal can use."""
