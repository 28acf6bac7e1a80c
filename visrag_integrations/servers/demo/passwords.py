"""Documents that need a password: how they are told from other failures, and what the page says about them."""

from __future__ import annotations

import re

# What the readers say of them; each adds what to do in a program or on the command line, which visitors have not.
_NEEDED = re.compile(r"is encrypted\. Give its password:.*", re.DOTALL)
_WRONG = re.compile(r"is encrypted and the password is wrong\..*", re.DOTALL)
NEEDED = "needs a password. Type it under “Password” and press Unlock."
WRONG = "could not be opened: that is not its password. Try again under “Password”."


def in_words(error: str) -> str:
    """The error as the page says it.

    >>> in_words('is encrypted. Give its password: PageReader(password="..."), or --password on the command line.')
    'needs a password. Type it under “Password” and press Unlock.'
    """
    return _WRONG.sub(WRONG, _NEEDED.sub(NEEDED, error))


def is_locked(error: str) -> bool:
    """Whether an error in these words is about a password."""
    return NEEDED in error or WRONG in error
