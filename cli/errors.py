"""The one error a person sees when a command cannot do what was asked."""

from local.errors import without_secrets


class CommandError(Exception):
    """What is wrong, why, and what to do next, in a sentence or two; without passwords, whoever is quoted.

    What the local stack cannot do is its own StackError.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))
