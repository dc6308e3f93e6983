"""The one error a person sees when the stack cannot do what was asked."""

import re

# What programs quote of an address, and the keys of a project.
SECRETS = re.compile(r"(://[^:/@\s]*:)[^@\s]+(?=@)|(sb_secret_)[\w-]+")


def without_secrets(text: str) -> str:
    """The text with dots in place of passwords and keys, whoever quoted them."""
    return SECRETS.sub(r"\1\2•••", text)


class StackError(Exception):
    """What is wrong, why, and what to do next, in a sentence or two; without passwords, whoever is quoted."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))
