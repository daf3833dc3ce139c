"""How the schema came to be, one step a file; ``Database.migrate`` runs them."""
