"""Exported OpenPGP secret keys, in a private temporary home of GnuPG's."""
