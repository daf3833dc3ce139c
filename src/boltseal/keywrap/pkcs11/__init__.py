"""The ``pkcs11`` scheme: RSA keys in tokens and security modules."""
