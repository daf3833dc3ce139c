"""May this image start here? ``boltseal check``, asked by runtimes before a pull and a start."""
