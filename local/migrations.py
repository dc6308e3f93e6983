"""Whether a database was made with the migrations of this checkout.

Until the first release they are edited in place; the CLI applies a file once and does not look at it again.
"""

import re
from pathlib import Path

SHOWN = 3  # names of files in a message


def outdated(project: Path, db_url: str) -> str | None:
    """What is to be said where applied migrations say something else by now, or are gone; None where all is well."""
    import psycopg

    try:
        with psycopg.connect(db_url, autocommit=True) as connection:
            applied = connection.execute(
                "select version, name, statements from supabase_migrations.schema_migrations order by version"
            ).fetchall()
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return None  # why it does not answer, the CLI tells; without the table nothing is applied yet
    files = {path.name.partition("_")[0]: path for path in (project / "supabase" / "migrations").glob("*.sql")}
    changed = [
        f"{version}_{name}.sql"
        for version, name, statements in applied
        if version not in files or _meaning(files[version].read_text("utf-8")) != _meaning("\n".join(statements))
    ]
    if not changed:
        return None
    names = ", ".join(changed[:SHOWN]) + (", …" if len(changed) > SHOWN else "")
    return f"{len(changed)} of {len(applied)} migrations were changed after they were applied to this data ({names})"


def _meaning(sql: str) -> str:
    """SQL without what the CLI leaves out of the statements that it keeps, and without comments."""
    return re.sub(r"[\s;]+", "", re.sub(r"--.*", "", sql))
