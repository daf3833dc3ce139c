"""Whole images: encrypt, decrypt, copy, inspect. Nothing here prints or reads arguments."""
