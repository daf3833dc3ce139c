"""The ``provider.boltseal-broker`` scheme: keys that a key broker holds and releases by policy."""
