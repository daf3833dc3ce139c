"""Where images live. A transport moves bytes and never sees a key."""
