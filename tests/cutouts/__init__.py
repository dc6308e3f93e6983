"""Pictures with the truth of their cut-out: art with a known alpha on the grounds that shops receive, and the rules
by which a cut-out is judged."""
