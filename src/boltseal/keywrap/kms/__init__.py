"""The ``provider.boltseal-kms`` scheme: keys that never leave a cloud's key service."""
