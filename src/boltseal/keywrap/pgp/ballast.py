"""A recipient that makes newer GnuPG write what everybody reads, and who is thrown out again.

GnuPG 2.3 and newer writes OCB packets (tag 20) when the keys of all recipients say that they can
read them, as its own new keys do, and has no option against it. The format's other readers know
RFC 4880's packets alone. A recipient whose key does not have that feature keeps GnuPG from it; the
session key for this one is taken out before the message is used.

Nobody has the secret half, and nobody can have had it: the public point is the SHA-256 digest of
PHRASE followed by a zero octet, with its highest bit cleared, and not a multiple that somebody
chose. A test computes it again.
"""

from __future__ import annotations

from base64 import b64decode

PHRASE = b"Boltseal: nobody has the secret half of this key"
KEY_ID = "1CB4648BE9C309B3"  # of the encryption subkey
PUBLIC_KEY = b64decode(
    b"mDMEZZIAgBYJKwYBBAHaRw8BAQdA5mYIyO9oe8VGXCgYKJF3lLiW7xtKt+yei4fKemsyzWe0EEJvbHRzZWFsIGJh"
    b"bGxhc3SIkAQTFggAOBYhBCft6lEqCa0q2k/k3dcyqLuujTNIBQJlkgCAAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4B"
    b"AheAAAoJENcyqLuujTNIojwA/0U0C25SrpN98U8pHsAyeGg6CWGwC4hPZisDcf3tVH02AQCs8xxaEt8fVvRGm70l"
    b"gPoBz0iWSoTG1oS/l8PSMmvUD7g4BGWSAIASCisGAQQBl1UBBQEBB0D8Tx4hzJbVToLa568IXNGw7psiqG057iih"
    b"k8H2ak/adQMBCAeIeAQYFggAIBYhBCft6lEqCa0q2k/k3dcyqLuujTNIBQJlkgCAAhsMAAoJENcyqLuujTNIaZQB"
    b"AJrVl+XsNERqqtxfERNHjKqA+YSVgIEgvVkRnqfMfHtlAP9wpt4xBSZQFK31x9C5glh3W0EovefEWZgz6NDJoPBL"
    b"Bw=="
)
