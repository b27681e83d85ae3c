from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.server
import os
import shutil
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbench import strict_yaml
from mmbench.cli.data import command
from mmbench.data import fetch as fetching
from mmbench.data.fetch import ATTEMPTS, ProgressLine, fetch, next_step
from mmbench.data.manifest import Download
from mmbench.errors import ConfigError, DataError

from .samples import make_content, make_manifest

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """What the handler serves, and what it was asked. `cuts`: after how many bytes of the body each answer in turn breaks off (None: not)."""

    def __init__(self, url: str):
        self.url = url
        self.requests: list[dict[str, str]] = []
        self.reset()

    def reset(self) -> None:
        self.content, self.etag, self.modified = CONTENT, '"one"', None
        self.ranges = self.obeys_if_range = True
        self.cuts: list[int | None] = []
        self.codes: list[int] = []
        self.announced = self.shift = 0
        self.kind = "application/octet-stream"
        self.after: Callable[[], None] = lambda: None
        self.requests.clear()

    def asked(self, header: str) -> list[str | None]:
        return [request.get(header) for request in self.requests]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        state: Server = self.server.state  # type: ignore[attr-defined]
        state.requests.append(dict(self.headers.items()))
        if state.codes:
            self.send_response(state.codes.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, content = 0, state.content
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if wanted and state.ranges and (not state.obeys_if_range or condition in (state.etag, state.modified)):
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) - state.shift
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", state.kind)
        for name, value in (("ETag", state.etag), ("Last-Modified", state.modified)):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) - start + state.announced))
        self.end_headers()
        cut = state.cuts.pop(0) if state.cuts else None
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])
        self.wfile.flush()
        state.after()
        self.close_connection = True

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.state = state = Server(f"http://127.0.0.1:{server.server_address[1]}/file.bin")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running.reset()
    return running


def download(server: Server, sha256: str | None = SHA256, file: str = "Tiny/file.bin") -> Download:
    return Download(url=server.url, file=file, sha256=sha256)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def get(server: Server, folder: Path, **options: Any) -> Path:
    found = fetch(download(server, **options), folder, wait=0)
    assert not found.there
    assert names(folder) == [str(found.path.relative_to(folder))]
    return found.path


def failure(server: Server, folder: Path, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        fetch(download(server, **options), folder, wait=0)
    assert not (folder / "Tiny/file.bin").exists()
    return str(error.value)


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path).read_bytes() == CONTENT
    again = fetch(download(server), tmp_path)
    assert (again.there, again.sha256, len(server.requests)) == (True, SHA256, 1)


@pytest.mark.parametrize(
    "state", [{"etag": '"one"'}, {"etag": None, "modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, {"etag": 'W/"one"', "modified": "Wed"}]
)
def test_a_cut_download_goes_on_where_it_stopped(server: Server, tmp_path: Path, state: dict[str, Any]) -> None:
    vars(server).update(state, cuts=[1000, 2000])
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked("Range") == [None, "bytes=1000-", "bytes=3000-"]
    validator = server.modified or server.etag
    assert server.asked("If-Range") == [None, validator, validator]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 4000), max_size=6), ranges=st.booleans(), tagged=st.booleans())
def test_however_it_is_cut_the_file_is_whole_or_not_there(server: Server, tmp_path_factory: Any, cuts: list[int], ranges: bool, tagged: bool) -> None:
    server.reset()
    vars(server).update(cuts=list(cuts), ranges=ranges, etag='"one"' if tagged else None)
    folder = tmp_path_factory.mktemp("cut")
    if len(cuts) >= ATTEMPTS:
        with contextlib.suppress(DataError):
            fetch(download(server, sha256=None), folder, wait=0)
    else:
        fetch(download(server, sha256=None), folder, wait=0)
    path = folder / "Tiny/file.bin"
    assert path.read_bytes() == CONTENT if path.exists() else len(cuts) >= ATTEMPTS


@pytest.mark.parametrize("state", [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}])
def test_without_ranges_or_something_to_know_the_file_by_it_starts_anew(server: Server, tmp_path: Path, state: dict[str, Any]) -> None:
    vars(server).update(state, cuts=[5000])
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("obeys", [True, False])
def test_a_file_that_changed_in_between_is_never_mixed(server: Server, tmp_path: Path, obeys: bool) -> None:
    def change() -> None:
        server.content, server.etag = CONTENT[::-1], '"two"'

    vars(server).update(cuts=[5000], after=change, obeys_if_range=obeys)
    assert get(server, tmp_path, sha256=None).read_bytes() == CONTENT[::-1]


def test_attempts_that_bring_something_do_not_count(server: Server, tmp_path: Path) -> None:
    server.cuts = [500] * (3 * ATTEMPTS)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3 * ATTEMPTS + 1


def test_another_part_than_was_asked_for_is_not_used(server: Server, tmp_path: Path) -> None:
    vars(server).update(cuts=[5000], shift=7)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked("Range") == [None, "bytes=5000-", None]


def test_a_part_of_which_nothing_is_known_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "Tiny").mkdir()
    (tmp_path / "Tiny/file.bin.part").write_bytes(b"something else")
    server.codes = [404]
    failure(server, tmp_path)
    assert names(tmp_path) == []


def test_the_part_of_another_address_is_not_used(server: Server, tmp_path: Path) -> None:
    server.cuts = [3000] * (ATTEMPTS * 5)
    with pytest.raises(KeyboardInterrupt):
        fetch(download(server), tmp_path, interrupt, wait=0)
    server.reset()
    assert fetch(Download(url=server.url + "?other", file="Tiny/file.bin"), tmp_path, wait=0).sha256 == SHA256
    assert server.asked("Range") == [None]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_keeps_what_came_and_the_same_command_goes_on(server: Server, tmp_path: Path) -> None:
    server.cuts = [4000]
    with pytest.raises(KeyboardInterrupt):
        fetch(download(server), tmp_path, interrupt, wait=0)
    assert names(tmp_path) == ["Tiny/file.bin.part", "Tiny/file.bin.part.json"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked("Range")[1:] == ["bytes=4000-"]


def test_a_part_that_is_whole_already(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_checked", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(download(server), tmp_path)
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked("Range") == [None, f"bytes={len(CONTENT)}-"]  # answered with 416


def test_a_part_that_is_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    server.cuts = [4000]
    with pytest.raises(KeyboardInterrupt):
        fetch(download(server), tmp_path, interrupt, wait=0)
    vars(server).update(content=CONTENT[:1000], obeys_if_range=False)
    assert get(server, tmp_path, sha256=None).read_bytes() == CONTENT[:1000]


def test_a_server_that_says_no_is_asked_once(server: Server, tmp_path: Path) -> None:
    server.codes = [404]
    message = failure(server, tmp_path)
    assert "404" in message
    assert f"belongs to {tmp_path / 'Tiny/file.bin'}" in message
    assert (len(server.requests), names(tmp_path)) == (1, [])


def test_a_server_that_says_no_in_the_middle_takes_nothing_away(server: Server, tmp_path: Path) -> None:
    server.cuts, server.after = [4000], lambda: server.codes.append(410)
    assert "kept as file.bin.part" in failure(server, tmp_path)
    assert (tmp_path / "Tiny/file.bin.part").read_bytes() == CONTENT[:4000]


def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.codes = [503, 500, 429]
    assert get(server, tmp_path).read_bytes() == CONTENT
    server.codes = [503] * ATTEMPTS
    assert "503" in failure(server, tmp_path / "other")


def test_a_server_that_announces_more_than_it_has(server: Server, tmp_path: Path) -> None:
    vars(server).update(announced=10, ranges=False)
    assert "the connection ended after 10.24 kB of 10.25 kB" in failure(server, tmp_path, sha256=None)


def test_nobody_answers(tmp_path: Path, server: Server) -> None:
    server_url, server.url = server.url, "http://127.0.0.1:9/file.bin"
    try:
        assert "cannot be reached" in failure(server, tmp_path)
    finally:
        server.url = server_url
    assert names(tmp_path) == []


def test_a_web_page_is_not_the_file(server: Server, tmp_path: Path) -> None:
    server.kind = "text/html; charset=utf-8"
    assert "a web page, not" in failure(server, tmp_path, sha256=None)


def test_a_file_that_is_not_the_published_one_is_kept_aside(server: Server, tmp_path: Path) -> None:
    message = failure(server, tmp_path, sha256="0" * 64)
    assert SHA256 in message
    assert "0" * 64 in message
    assert names(tmp_path) == [f"Tiny/file.bin.wrong-{SHA256[:8]}"]
    assert fetch(download(server), tmp_path).sha256 == SHA256


def test_another_file_under_the_name_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "Tiny").mkdir()
    path = tmp_path / "Tiny/file.bin"
    path.write_bytes(b"mine")
    with pytest.raises(DataError, match="Move it away"):
        fetch(download(server), tmp_path)
    assert (path.read_bytes(), server.requests) == (b"mine", [])
    assert fetch(download(server, sha256=None), tmp_path).there


Usage = namedtuple("Usage", "total used free")


def test_a_disk_that_is_too_small(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 0, 100))
    assert "10.24 kB are still to come and 100 B are free" in failure(server, tmp_path)


def test_a_disk_that_is_full_in_the_middle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = failure(server, tmp_path)
    assert "the disk is full" in message
    assert "goes on" in message


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "Tiny").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        fetch(download(server), tmp_path)


def test_one_process_at_a_time(server: Server, tmp_path: Path) -> None:
    """The second waits for the first, and takes what it has fetched, or goes on where it stopped."""
    (tmp_path / "Tiny").mkdir()
    part, waited = tmp_path / "Tiny/file.bin.part", []
    for whole in (True, False):
        file = open(part, "wb")  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)

        def ended(name: str, have: int, total: int | None, file: Any = file, whole: bool = whole) -> None:
            if file.closed:
                return
            waited.append((name, have, total))
            if whole:
                part.write_bytes(server.content)
                part.rename(tmp_path / "Tiny/file.bin")
            file.close()

        found = fetch(download(server), tmp_path, ended)
        assert (found.there, found.path.read_bytes() == server.content) == (whole, True)
        found.path.unlink()
    assert waited == [("file.bin", 0, None)] * 2
    assert list((tmp_path / "Tiny").iterdir()) == []


@pytest.mark.parametrize("file", ["/etc/x", "../x", "a/../../x"])
def test_a_name_outside_the_folder_is_refused(server: Server, tmp_path: Path, file: str) -> None:
    with pytest.raises(DataError, match="below the data root"):
        fetch(download(server, file=file), tmp_path)


# the verb


def manifest(folder: Path, *downloads: Download) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(strict_yaml.dump(make_manifest(make_content(), downloads=[each.model_dump(exclude_none=True) for each in downloads])))
    return path


def test_the_verb(server: Server, tmp_path: Path) -> None:
    name = manifest(tmp_path, download(server), download(server, file="Tiny/raw.tar.gz"))
    result = CliRunner().invoke(command, ["fetch", str(name), "--out", str(tmp_path / "data")])
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'data/Tiny/file.bin'}: fetched; sha256 {SHA256} (as published)" in result.output
    assert f"tar -xf {tmp_path / 'data/Tiny/raw.tar.gz'} -C" in result.output
    again = CliRunner().invoke(command, ["fetch", str(name), "Tiny/file.bin", "--data-root", str(tmp_path / "data")])
    assert "is already there" in again.output
    assert "raw.tar.gz" not in again.output
    unknown = CliRunner().invoke(command, ["fetch", str(name), "other.bin"])
    assert isinstance(unknown.exception, ConfigError)
    assert "Tiny/file.bin, Tiny/raw.tar.gz" in str(unknown.exception)


def test_the_verb_interrupted(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProgressLine, "__call__", interrupt)
    result = CliRunner().invoke(command, ["fetch", str(manifest(tmp_path, download(server))), "--out", str(tmp_path)])
    assert result.exit_code != 0
    assert "the same command goes on" in result.stderr
    assert (tmp_path / "Tiny/file.bin.part").exists()


def test_a_data_set_without_downloads_says_what_to_ask_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["fetch", "sims", "--out", str(tmp_path)])
    assert result.exit_code == 0
    for text in (
        "no plain download",
        "https://github.com/thuiar/MMSA",
        str(tmp_path / "SIMS/Processed/unaligned_39.pkl"),
        "c9e20c13",
        "ask the authors",
    ):
        assert text in result.output
    assert names(tmp_path) == []


def test_no_names_of_files_are_known(tmp_path: Path) -> None:
    content = make_manifest(make_content())
    content["layouts"] = {"aligned": {"files": [], "shapes": content["layouts"]["aligned"]["shapes"]}}
    (tmp_path / "tiny.yaml").write_text(strict_yaml.dump(content))
    result = CliRunner().invoke(command, ["fetch", str(tmp_path / "tiny.yaml")])
    assert result.exit_code == 0, result.output
    assert "features" not in result.output


def test_progress_is_one_line_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal:
        text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None: ...

    terminal = Terminal()
    line = ProgressLine(terminal)  # type: ignore[arg-type]
    line("file.bin", 2_500_000, 10_000_000)
    line.end()
    assert terminal.text == "\r\x1b[Kfile.bin: 2.5 MB of 10 MB (25 %)\n"


def test_what_to_do_with_an_archive() -> None:
    assert "unzip a/b.zip -d a" in next_step(Path("a/b.zip"))
    assert next_step(Path("a/b.csv")) == ""
