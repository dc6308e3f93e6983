"""The one error a person sees when the stack cannot do what was asked."""


class StackError(Exception):
    """What is wrong, why, and what to do next, in a sentence or two."""
