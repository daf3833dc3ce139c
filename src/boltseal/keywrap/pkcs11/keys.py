"""Recipients and identities of the ``pkcs11`` scheme."""
