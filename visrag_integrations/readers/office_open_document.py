"""OpenDocument files with a password (.odt, .ods, .odp): each part is encrypted by itself, the list of parts says how.

As OpenDocument 1.3, part 2, chapter 3 has it: AES-256 in CBC, and Blowfish in CFB of OpenOffice before 2012. The one
encrypted package in a package of LibreOffice 24.8 and newer is not opened.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO
from xml.etree import ElementTree

from visrag_integrations.errors import DocumentError, DocumentLimitError, MissingExtraError, PasswordError, printable
from visrag_integrations.readers.office_password import SAVE_WITHOUT

_MANIFEST = "META-INF/manifest.xml"
# Bytes of the list of parts: a document of a thousand pictures has a list of some 100 kB.
_MOST_MANIFEST = 8 << 20
_BLOCK = 1 << 20
# Rounds that a password is hashed. Programs write 100,000; a hostile file could ask for years of it.
_MOST_ROUNDS = 2_000_000
# Bytes of a part before it was encrypted that its checksum is made of.
_CHECKED = 1024
_WHOLE = (
    "is encrypted in the way of LibreOffice 24.8 and newer, which cannot be opened. Save it without a password, or as "
    ".docx, .xlsx or .pptx with one."
)


@dataclass(frozen=True)
class _EncryptedPart:
    """How one part is encrypted."""

    cipher: str
    vector: bytes
    start: str
    salt: bytes
    rounds: int
    key_bytes: int
    checksum: bytes
    checksum_hash: str


def unlock_open_document(name: str, file: BinaryIO, target: Path, password: str | None, needed: str) -> bool:
    """Write a decrypted copy of a package; False where it is not encrypted.

    Args:
        name: Of the document, for errors.
        file: The package.
        target: Where the copy goes.
        password: Of the document.
        needed: What to say where there is none.

    Raises:
        PasswordError: It is encrypted, and the password is missing or wrong.
        MissingExtraError: It is encrypted, and what decrypts it is not installed.
        DocumentError: It is encrypted in an unknown way, or damaged.
    """
    try:
        with zipfile.ZipFile(file) as package:
            if "encrypted-package" in package.namelist():
                raise PasswordError(name, _WHOLE)
            manifest = _manifest(package)
            if b"encryption-data" not in manifest:
                return False
            if not password:
                raise PasswordError(name, needed)
            _decrypt(name, package, target, _Lock(manifest, password))
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, ElementTree.ParseError) as err:
        target.unlink(missing_ok=True)
        if isinstance(err, DocumentError):
            raise
        raise DocumentError(name, f"is damaged: {printable(str(err))}. Open it and save it anew.") from err
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return True


class _Lock:
    """The list of parts, and the password."""

    def __init__(self, manifest: bytes, password: str) -> None:
        self._root = ElementTree.fromstring(manifest)
        self._password = password.encode()
        self.parts: dict[str, _EncryptedPart] = {}
        for entry in list(self._root):
            for item in list(entry):
                if _local(item) == "encryption-data":
                    self.parts[_attribute(entry, "full-path")] = _read_part(item)
                    entry.remove(item)

    @property
    def manifest(self) -> bytes:
        """The list of parts as it is without a password."""
        return ElementTree.tostring(self._root)

    def key(self, part: _EncryptedPart) -> bytes:
        return _key(self._password, part.start, part.salt, part.rounds, part.key_bytes)


def _manifest(package: zipfile.ZipFile) -> bytes:
    if _MANIFEST not in package.namelist():
        return b""
    with package.open(_MANIFEST) as listed:
        return listed.read(_MOST_MANIFEST)


def _read_part(item: Any) -> _EncryptedPart:
    found = {_local(child): child for child in item}
    cipher = _attribute(found["algorithm"], "algorithm-name")
    derivation = found["key-derivation"]
    kind = _attribute(item, "checksum-type").lower()
    start = "sha1"
    if "start-key-generation" in found and "256" in _attribute(
        found["start-key-generation"], "start-key-generation-name"
    ):
        start = "sha256"
    return _EncryptedPart(
        cipher="aes" if "aes" in cipher.lower() else cipher,
        vector=base64.b64decode(_attribute(found["algorithm"], "initialisation-vector")),
        start=start,
        salt=base64.b64decode(_attribute(derivation, "salt")),
        rounds=int(_attribute(derivation, "iteration-count")),
        key_bytes=int(_attribute(derivation, "key-size") or 16),
        checksum=base64.b64decode(_attribute(item, "checksum")),
        checksum_hash="sha256" if "sha256" in kind else "sha1",
    )


def _decrypt(name: str, package: zipfile.ZipFile, target: Path, lock: _Lock) -> None:
    from visrag_integrations.readers.office_package import MAX_UNPACKED

    left = MAX_UNPACKED
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for info in package.infolist():
            if info.is_dir():
                continue
            if info.filename == _MANIFEST:
                made.writestr(_MANIFEST, lock.manifest)
                continue
            part = lock.parts.get(info.filename)
            packing = zipfile.ZIP_STORED if info.filename == "mimetype" else zipfile.ZIP_DEFLATED
            entry = zipfile.ZipInfo(info.filename, (2000, 1, 1, 0, 0, 0))
            entry.compress_type = packing
            with package.open(info) as given, made.open(entry, "w") as copy:
                blocks = _blocks(given)
                if part is not None:
                    if info.file_size > left:
                        raise _too_large(name, MAX_UNPACKED)
                    blocks = _unpacked(_plain_bytes(name, given.read(), part, lock))
                for block in blocks:
                    left -= len(block)
                    if left < 0:
                        raise _too_large(name, MAX_UNPACKED)
                    copy.write(block)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _too_large(name: str, most: int) -> DocumentLimitError:
    return DocumentLimitError(name, f"unpacks to more than {most >> 20} MiB. Save it anew, or in several files.")


def _plain_bytes(name: str, data: bytes, part: _EncryptedPart, lock: _Lock) -> bytes:
    """A part as it was before it was encrypted: still packed.

    Raises:
        PasswordError: The password is wrong.
    """
    if not 0 < part.rounds <= _MOST_ROUNDS:
        raise DocumentError(
            name, f"asks for {part.rounds} rounds of hashing its password; {_MOST_ROUNDS} are allowed. {SAVE_WITHOUT}"
        )
    plain = _deciphered(name, data, part, lock.key(part))
    if part.cipher == "aes" and plain:
        plain = plain[: -plain[-1]]  # the last byte says how many were added to fill a block
    if hashlib.new(part.checksum_hash, plain[:_CHECKED], usedforsecurity=False).digest() != part.checksum:
        raise PasswordError(name, "is encrypted and the password is wrong. Check it and try again.")
    return plain


def _deciphered(name: str, data: bytes, part: _EncryptedPart, key: bytes) -> bytes:
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError as err:
        raise MissingExtraError("cryptography, which opens OpenDocument files with a password,", "office") from err
    cipher: Any
    if part.cipher == "aes":
        cipher = Cipher(algorithms.AES(key), modes.CBC(part.vector))
    elif part.cipher.lower().startswith("blowfish"):
        cipher = Cipher(_outdated("algorithms", "Blowfish")(key), _outdated("modes", "CFB")(part.vector))
    else:
        raise DocumentError(
            name, f"is encrypted in a way that cannot be opened: {printable(part.cipher)}. {SAVE_WITHOUT}"
        )
    decryptor = cipher.decryptor()
    found: bytes = decryptor.update(data) + decryptor.finalize()
    return found


def _outdated(module: str, name: str) -> Any:
    """A cipher or mode that newer versions of the package keep in another place."""
    try:
        found = importlib.import_module(f"cryptography.hazmat.decrepit.ciphers.{module}")
        return getattr(found, name)
    except (ImportError, AttributeError):
        return getattr(importlib.import_module(f"cryptography.hazmat.primitives.ciphers.{module}"), name)


def _unpacked(plain: bytes) -> Iterator[bytes]:
    """The bytes of a part that was packed without a header, in pieces."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    rest = plain
    while rest and not stream.eof:
        yield stream.decompress(rest, _BLOCK)
        rest = stream.unconsumed_tail


@functools.lru_cache(maxsize=64)
def _key(password: bytes, start: str, salt: bytes, rounds: int, key_bytes: int) -> bytes:
    begun = hashlib.new(start, password, usedforsecurity=False).digest()
    return hashlib.pbkdf2_hmac("sha1", begun, salt, rounds, key_bytes)


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _attribute(element: Any, name: str) -> str:
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return ""
