"""Prompts shared by runs and stored answers: each text is in the database once, for any number of runs.

An automation has a separate text, which people edit. A run refers to the text at the time of acceptance. The
functions work in a transaction of the caller.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from typing import Final

RUN_PROMPT: Final = "coalesce((SELECT text FROM prompts WHERE prompts.id = runs.prompt_id), runs.prompt)"
"""The prompt of a run, in SQL. A run accepted by an older version may still hold the text in the row.

`move_run_prompts` moves such texts.
"""

_MAX_ROWS: Final = 200
_MAX_CHARACTERS: Final = 4 * 2**20
"""The most that a transaction moves: some ten milliseconds."""


def keep(connection: sqlite3.Connection, text: str) -> int:
    """Store this text in the database, and return the number of the text."""
    digest = hashlib.sha256(text.encode()).digest()
    connection.execute(
        "INSERT INTO prompts (sha256, text) VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, text)
    )
    (number,) = connection.execute("SELECT id FROM prompts WHERE sha256 = ?", (digest,)).fetchone()
    return int(number)


def read(connection: sqlite3.Connection, number: int) -> str:
    """Return the text with this number."""
    (text,) = connection.execute("SELECT text FROM prompts WHERE id = ?", (number,)).fetchone()
    return str(text)


def remove_unused(connection: sqlite3.Connection, numbers: Iterable[int | None]) -> None:
    """Remove the texts among these without a run and without an answer."""
    candidates = sorted({number for number in numbers if number is not None})
    if candidates:
        connection.execute(
            """
            DELETE FROM prompts WHERE id IN (SELECT value FROM json_each(?))
                AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.prompt_id = prompts.id)
                AND NOT EXISTS (SELECT 1 FROM idempotent_answers
                    WHERE idempotent_answers.prompt_id = prompts.id)
            """,
            (json.dumps(candidates),),
        )


def move_run_prompts(connection: sqlite3.Connection) -> int:
    """Move the prompts of the first runs of an older version. Return the number of prompts, 0 at the end."""
    moved: list[tuple[int, int]] = []
    characters = 0
    rows = connection.execute(
        "SELECT sequence, prompt FROM runs INDEXED BY runs_with_own_prompt WHERE prompt_id IS NULL "
        "ORDER BY sequence LIMIT ?",
        (_MAX_ROWS,),
    )
    for sequence, prompt in rows:
        moved.append((sequence, keep(connection, prompt)))
        characters += len(prompt)
        if characters > _MAX_CHARACTERS:
            break
    rows.close()
    connection.execute(
        """
        UPDATE runs SET prompt = '', prompt_id = moved.prompt_id
        FROM (SELECT value ->> 0 AS sequence, value ->> 1 AS prompt_id FROM json_each(?)) AS moved
        WHERE runs.sequence = moved.sequence
        """,
        (json.dumps(moved),),
    )
    return len(moved)
