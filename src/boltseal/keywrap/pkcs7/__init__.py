"""The ``pkcs7`` scheme: X.509 certificates and their RSA keys."""
