"""The ``provider.<name>`` schemes, client side: programs and services that hold keys."""
