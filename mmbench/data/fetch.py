"""Downloads the files that a data set's owner offers for a plain download, and says how to ask for the rest.

A file is written to ``<name>.part``, beside which ``<name>.part.json`` says what it is part of, and gets its own name when it is whole and its
digest is right. A download that was cut goes on where it stopped if the server says that the file is still the same (If-Range), else anew.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from mmbench import __version__
from mmbench.data.manifest import Download, Manifest
from mmbench.errors import DataError, printable
from mmbench.files import in_bytes, load_json, sync_folder, write_json

Progress = Callable[[str, int, "int | None"], None]
"""Told the file's name, the bytes there are, and the bytes there will be, if the server said so."""

ATTEMPTS = 5
"""How often it is tried in a row without a byte more than before."""
_WAIT = 2.0
"""Seconds before the second attempt; twice as long before each further one."""
_TIMEOUT = 60.0
_PAUSE = 0.5
"""Seconds between two looks at a file that another process fetches."""
_BLOCK = 1 << 18
_LATER = {408, 425, 429, 500, 502, 503, 504}
"""Answers that may be another in a moment."""
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class _CutError(Exception):
    """The connection failed or ended early; the next attempt may go on."""


@dataclass(frozen=True)
class Fetched:
    """A whole file: its digest, and whether it was there before."""

    path: Path
    sha256: str
    there: bool


def fetch(download: Download, folder: Path, progress: Progress = lambda *_: None, wait: float = _WAIT) -> Fetched:
    """The file of a download below `folder`, unless it is there already. DataError: what went wrong, what is kept, and what to do."""
    name = PurePosixPath(download.file)
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"downloads: the file {download.file!r} is not a name below the data root")
    path = folder / name
    if path.exists():
        return _there(download, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, progress):
            if path.exists():
                return _there(download, path)  # another process was first
            part = _Part(download.url, path)
            _complete(part, progress, wait)
            return _checked(download, part)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{path}: the disk is full. What came so far is kept as {path.name}.part; make room, and the same command goes on"
            ) from None
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None


def _there(download: Download, path: Path) -> Fetched:
    digest = _digest(path)
    if download.sha256 not in (None, digest):
        raise DataError(
            f"{path}: is there, but is not the published file: its sha256 is {digest}, published is {download.sha256}. Move it away to fetch it again"
        )
    return Fetched(path, digest, True)


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            content = hashlib.sha256()
            while block := file.read(1 << 20):
                content.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return content.hexdigest()


@contextlib.contextmanager
def _alone(path: Path, progress: Progress) -> Iterator[None]:
    """One process fetches a file at a time; another one waits, and tells how far that one is."""
    part = path.with_name(f"{path.name}.part")
    with contextlib.ExitStack() as held:
        while True:
            file = held.enter_context(open(part, "ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress(path.name, os.fstat(file.fileno()).st_size, None)
                time.sleep(_PAUSE)
            except OSError:
                break  # a file system without locks
            else:
                if path.exists() or _same_file(file.fileno(), part):
                    break
            held.close()  # the part may have got its name, or have gone
        try:
            yield
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


class _Part:
    """What there is of a file. `validator`: the server's strong ETag or date of this state of the file, without which no part can be trusted."""

    def __init__(self, url: str, path: Path):
        self.url, self.path = url, path
        self.file, self.note = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
        self.validator: str | None = None
        self.total: int | None = None
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            known = load_json(self.note)
            if known["url"] == url and isinstance(known["validator"], str):
                self.validator, self.total = known["validator"], known["total"]
        if self.validator is None:
            self.restart(None, None)

    @property
    def size(self) -> int:
        """Bytes that there are."""
        return self.file.stat().st_size

    def restart(self, validator: str | None, total: int | None) -> None:
        """Forget what there is; what comes now is the file of this state."""
        os.truncate(self.file, 0)
        self.validator, self.total = validator, total
        if validator is None:
            self.note.unlink(missing_ok=True)
        else:
            write_json(self.note, {"url": self.url, "validator": validator, "total": total})


def _complete(part: _Part, progress: Progress, wait: float) -> None:
    """Attempts until the part is whole; those that bring more bytes than there ever were do not count."""
    most, failures = part.size, 0
    while problem := _attempt(part, progress):
        failures = 0 if part.size > most else failures + 1
        most = max(most, part.size)
        if failures >= ATTEMPTS:
            kept = f" {in_bytes(part.size)} are kept as {part.file.name}." if part.size and part.validator else ""
            raise DataError(f"{part.url}: {problem}, {failures} times in a row.{kept} The same command tries again")
        time.sleep(wait * 2 ** max(failures - 1, 0))


def _attempt(part: _Part, progress: Progress) -> str:
    """One request; why the next one may do better, or nothing where the part is whole. DataError: no further attempt helps."""
    try:
        _request(part, progress)
    except urllib.error.HTTPError as error:
        return _refused(part, error)
    except urllib.error.URLError as error:
        return f"cannot be reached ({error.reason})"
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        return f"the connection failed ({str(error) or type(error).__name__})"
    except _CutError as error:
        return str(error)
    return ""


def _request(part: _Part, progress: Progress) -> None:
    """Ask for the rest of the file where a part is there, else for the whole."""
    have = part.size
    headers = {"User-Agent": f"mmbench/{__version__}", "Accept-Encoding": "identity"}
    if have and part.validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": part.validator}
    with urllib.request.urlopen(urllib.request.Request(part.url, headers=headers), timeout=_TIMEOUT) as answer:
        start = _begin(part, answer, have)
        _receive(part, answer, start, progress)


def _begin(part: _Part, answer: Any, have: int) -> int:
    """Where the body of an answer belongs; a part that it does not continue is dropped."""
    headers = answer.headers
    if headers.get_content_type() == "text/html" and not part.path.name.endswith((".html", ".htm")):
        raise DataError(f"{part.url}: the server answers with a web page, not with the file; look at it in a browser. {_elsewhere(part.path)}")
    tag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
    state = tag if tag.startswith('"') else headers.get("Last-Modified")
    if answer.status == 200:
        part.restart(state, int(length) if length.isdigit() else None)
        return 0
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    rest = have and span and int(span[1]) == have and span[2] in ("*", str(part.total or span[2]))
    if answer.status == 206 and rest and state in (None, part.validator):
        return have
    part.restart(None, None)
    raise _CutError("the server sent another part than was asked for")


def _receive(part: _Part, answer: Any, have: int, progress: Progress) -> None:
    missing = None if part.total is None else part.total - have
    free = shutil.disk_usage(part.file.parent).free
    if missing is not None and free < missing:
        raise DataError(f"{part.path}: {in_bytes(missing)} are still to come and {in_bytes(free)} are free. Make room, and the same command goes on")
    with open(part.file, "ab") as file:
        while block := _read(answer):
            file.write(block)
            have += len(block)
            progress(part.path.name, have, part.total)
        file.flush()
        os.fsync(file.fileno())
    if part.total is not None and have < part.total:
        raise _CutError(f"the connection ended after {in_bytes(have)} of {in_bytes(part.total)}")


def _read(answer: Any) -> bytes:
    try:
        block: bytes = answer.read(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(f"the connection failed ({str(error) or type(error).__name__})") from None
    return block


def _refused(part: _Part, error: urllib.error.HTTPError) -> str:
    """What an answer that is none means for the next attempt; nothing where it means that the part is whole."""
    have, length = part.size, error.headers.get("Content-Range", "").strip()
    error.close()
    if error.code == 416 and have:
        if length == f"bytes */{have}":
            return ""
        part.restart(None, None)
        return "the file is another than before"
    if error.code in _LATER:
        return f"the server answers {error.code} {error.reason}"
    kept = f" What came so far is kept as {part.file.name}." if have and part.validator else ""
    raise DataError(f"{part.url}: the server answers {error.code} {error.reason}.{kept} {_elsewhere(part.path)}")


def _elsewhere(path: Path) -> str:
    return f"A copy from elsewhere belongs to {path}"


def _checked(download: Download, part: _Part) -> Fetched:
    """The whole file under its own name, or kept aside under a name that says that it is wrong."""
    digest = _digest(part.file)
    if download.sha256 not in (None, digest):
        aside = part.path.with_name(f"{part.path.name}.wrong-{digest[:8]}")
        os.replace(part.file, aside)
        part.note.unlink(missing_ok=True)
        raise DataError(
            f"{part.url}: came whole, but is not the published file: its sha256 is {digest}, published is {download.sha256}. It is kept as {aside}; "
            "the same command fetches it again"
        )
    os.replace(part.file, part.path)
    part.note.unlink(missing_ok=True)
    sync_folder(part.path.parent)
    return Fetched(part.path, digest, False)


# what is said


class ProgressLine:
    """How far a download is, on one line of a terminal; nothing where the stream is none."""

    def __init__(self, stream: TextIO):
        self.stream, self.shown, self.last = stream, False, 0.0

    def __call__(self, name: str, have: int, total: int | None) -> None:
        if self.stream.isatty() and time.monotonic() - self.last > 0.2:
            share = f" of {in_bytes(total)} ({100 * have // total} %)" if total else ""
            self.stream.write(f"\r\x1b[K{printable(name)}: {in_bytes(have)}{share}")
            self.stream.flush()
            self.shown, self.last = True, time.monotonic()

    def end(self) -> None:
        """Leave the line."""
        if self.shown:
            self.stream.write("\n")
        self.shown = False


def next_step(path: Path) -> str:
    """What to do with an archive, which is never unpacked here; nothing for other files."""
    if not path.name.endswith(_ARCHIVES):
        return ""
    tool = f"unzip {path} -d" if path.suffix == ".zip" else f"tar -xf {path} -C"
    return f"it is an archive, and is not unpacked: {tool} {path.parent}"


def instructions(manifest: Manifest, folder: Path) -> str:
    """Where to ask for the files that cannot be downloaded plainly, what they are called, and where they belong."""
    lines = [f"{manifest.title}: {manifest.source}", f"terms: {manifest.licence}"]
    for layout, published in manifest.layouts.items():
        if not published.files:
            continue
        lines.append(f"features ({layout}) belong to {folder / published.files[0]}")
        lines += [f"  or, below {folder}, to {', '.join(published.files[1:])}"] if published.files[1:] else []
        lines += [f"  with sha256 {digest}" for digest in published.sha256]
    lines += [f"recordings with label.csv belong to {folder / name}" for name in manifest.raw[:1]]
    return "\n".join([*lines, f"then: mmbench data check {manifest.name} --data-root {folder}"])
