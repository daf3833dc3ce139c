"""What administrators do, for HTTP, the console and the command line alike: plain functions.

Each takes the database and the actor first, checks what the actor may, validates every name, and
changes things in one transaction with its audit record. All raise RefusedError, and write down
what they refused.
"""
