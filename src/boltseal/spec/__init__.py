"""The image model: what the OCI specifications define, as values, with every bound in one place."""
