"""A recipient that makes newer GnuPG write what everybody reads, and who is thrown out again.

GnuPG 2.3 and newer writes OCB packets (tag 20) when the keys of all recipients say that they can
read them, as its own new keys do, and has no option against it. The format's other readers know
RFC 4880's packets alone. A recipient whose key does not have that feature keeps GnuPG from it; the
session key for this one is taken out before the message is used, so it makes no difference that
nobody has the secret half.
"""

from __future__ import annotations

from base64 import b64decode

KEY_ID = "3FE0DCC18952C96A"  # of the encryption subkey
PUBLIC_KEY = b64decode(
    b"mDMEZZIAgBYJKwYBBAHaRw8BAQdAipIcR/r4WvzaCZsSbHjgU1YtwGzp9vL8Y4fmQkdOYna0EEJvbHRzZWFsIGJh"
    b"bGxhc3SIkAQTFggAOBYhBOvH9Iq2/USjvml4c6fTiWJdxiC4BQJlkgCAAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4B"
    b"AheAAAoJEKfTiWJdxiC4nTwA/RCeJOTWK7IMKqEsWQ6q4qIbtbVah446QbEFHEjQe2bYAQDngNpQ6Y/Fm6tjPV0x"
    b"XZUAjp+Uqxw0YeuJt/M9H1Z8Bbg4BGWSAIASCisGAQQBl1UBBQEBB0CR7Pd7RMrmDx/342ajktOqFkkG33qNv+k+"
    b"CwrhsuJKTwMBCAeIeAQYFggAIBYhBOvH9Iq2/USjvml4c6fTiWJdxiC4BQJlkgCAAhsMAAoJEKfTiWJdxiC4viQA"
    b"/3HX5E0i3wHHI8+3uyxlCI5p+dAxN5/P3KElZannNY8SAP9mMCs2tHzzd/8ms8TXs37wGqLRHsS6Id4xnz2zFUH9"
    b"AA=="
)
