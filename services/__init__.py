"""Small processes between the database and the outside; they hold no state."""
