"""Registries over HTTP: OCI Distribution Specification 1.1."""
