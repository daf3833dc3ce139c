"""The ``pgp`` scheme: OpenPGP keys, by way of GnuPG."""
