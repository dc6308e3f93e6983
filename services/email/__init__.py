"""The e-mail service: sends what is in the outbox, hears what became of it, and lets people unsubscribe."""
