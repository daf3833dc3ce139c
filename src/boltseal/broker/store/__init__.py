"""Where the broker keeps everything: one database, SQLite or PostgreSQL, and one head row in it."""
