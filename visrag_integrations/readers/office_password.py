"""Office files with a password: recognised, and opened with it in memory or in the folder of the conversion."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from visrag_integrations.errors import DocumentError, MissingExtraError, PasswordError, printable

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How the container begins that Office used before packages; a package with a password is put into one too."""
NEEDED = 'is encrypted. Give its password: PageReader(password="..."), or --password on the command line.'
SAVE_WITHOUT = "Save it without a password, or as PDF."
_WRONG = "is encrypted and the password is wrong. Check it and try again."
# The names of the streams that say so, as they stand in the directory of the container: UTF-16.
_PACKAGE = "EncryptedPackage".encode("utf-16-le")


def unlock(name: str, file: BinaryIO, target: Path, password: str | None) -> bool:
    """Write a decrypted copy of a file in the old container; False where it needs none.

    Raises:
        PasswordError: It is encrypted, and the password is missing or wrong.
        MissingExtraError: It is encrypted, and what decrypts it is not installed.
    """
    try:
        import msoffcrypto
        from msoffcrypto import exceptions
    except ImportError as err:
        if _holds_package(file):
            raise MissingExtraError("msoffcrypto-tool, which opens office files with a password,", "office") from err
        return False
    file.seek(0)
    try:
        office = msoffcrypto.OfficeFile(file)
        if not office.is_encrypted():
            return False
    except Exception:  # noqa: BLE001  not a kind that it knows: LibreOffice is asked
        return False
    if not password:
        raise PasswordError(name, NEEDED)
    try:
        office.load_key(password=password)
        with target.open("wb") as copy:
            office.decrypt(copy)
    except (exceptions.InvalidKeyError, exceptions.DecryptionError) as err:
        target.unlink(missing_ok=True)
        # The library has one class for a wrong password and for a method it does not know.
        if isinstance(err, exceptions.InvalidKeyError) or "assword" in str(err):
            raise PasswordError(name, _WRONG) from err
        raise DocumentError(
            name, f"is encrypted in a way that cannot be opened: {printable(str(err))}. {SAVE_WITHOUT}"
        ) from err
    except Exception as err:
        target.unlink(missing_ok=True)
        raise DocumentError(name, f"is encrypted and damaged: {printable(str(err))}. {SAVE_WITHOUT}") from err
    return True


def _holds_package(file: BinaryIO) -> bool:
    file.seek(0)
    found = False
    before = b""
    while block := file.read(1 << 20):
        found = found or _PACKAGE in before + block
        before = block[-len(_PACKAGE) :]
    file.seek(0)
    return found
