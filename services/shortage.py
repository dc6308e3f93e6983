"""Whether a machine has run out of something: files, memory, room on the disk. Such trouble is none of the work's."""

import errno

SHORTAGES = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EADDRNOTAVAIL}
)


def is_shortage(error: object) -> bool:
    """Whether an error tells of it."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in SHORTAGES)
