"""The broker as a program: settings, TLS, HTTP, logs and metrics around the other rooms."""
