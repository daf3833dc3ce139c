"""One layer: encrypt, decrypt, wrap again. No transport is known here."""
