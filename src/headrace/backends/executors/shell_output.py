"""What a command's output means: collecting it within bounds, and reading a result from it."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any, BinaryIO, Literal

import msgspec

from headrace.contracts.execution import AttemptError, AttemptLog, Pulse

OutputMode = Literal["auto", "json", "text", "none"]

STDOUT_BYTES_MAX = 1024 * 1024
"""Up to here stdout is kept whole, as a result; a larger one belongs into ``$HEADRACE_OUTPUT``."""

TEXT_BYTES_MAX = 64 * 1024
"""This much of stdout's end is kept where it was too much to keep whole."""

OUTPUT_FILE_BYTES_MAX = 16 * 1024 * 1024
"""The largest ``$HEADRACE_OUTPUT`` file that is taken as a result."""

ERROR_LINES = 5
ERROR_CHARS_MAX = 1_000
"""How much of stderr's end goes into a failure's message."""

_STDERR_BYTES = 8_192


class OutputCollector:
    """Hands output on to the attempt's log as it comes and keeps what a result or a message may need."""

    def __init__(self, log: AttemptLog, pulse: Pulse | None = None) -> None:
        self._log = log
        self._pulse = pulse
        self._stdout = bytearray()
        self._stderr = bytearray()
        self.stdout_bytes = 0

    def __call__(self, stream: str, data: bytes) -> None:
        self._log.write(stream, data)
        if self._pulse is not None:
            self._pulse(None)  # a command that writes lives
        if stream == "stderr":
            self._stderr += data
            if len(self._stderr) > 4 * _STDERR_BYTES:
                del self._stderr[:-_STDERR_BYTES]
            return
        self.stdout_bytes += len(data)
        self._stdout += data
        # Over the bound only the end still counts; it is cut now and then, not at every write.
        if self.stdout_bytes > STDOUT_BYTES_MAX and len(self._stdout) > 2 * STDOUT_BYTES_MAX:
            del self._stdout[:-TEXT_BYTES_MAX]

    @property
    def whole(self) -> bytes | None:
        """All of stdout, None if it was too much to keep."""
        return bytes(self._stdout) if self.stdout_bytes <= STDOUT_BYTES_MAX else None

    @property
    def text(self) -> str:
        """Stdout, trimmed; bytes that are not UTF-8 are replaced. Of too much the end, under a line that says so: whoever
        takes it for the whole must be able to notice."""
        whole = self.whole
        if whole is not None:
            return whole.decode("utf-8", "replace").strip()
        end = bytes(self._stdout[-TEXT_BYTES_MAX:]).decode("utf-8", "replace").strip()
        return f"[headrace: the first {self.stdout_bytes - TEXT_BYTES_MAX:,} bytes of stdout are left out]\n{end}"

    def last_words(self) -> str:
        """The last lines of stderr, or of stdout if stderr is empty."""
        said = bytes(self._stderr[-_STDERR_BYTES:]) or bytes(self._stdout[-_STDERR_BYTES:])
        lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        return "\n".join(lines[-ERROR_LINES:])[-ERROR_CHARS_MAX:]


def read_result(mode: OutputMode, collected: OutputCollector, output_file: str) -> Any:
    """The attempt's output.

    A written ``$HEADRACE_OUTPUT`` file wins, JSON if it is JSON, else text. Otherwise, in mode ``auto``: all of stdout
    if it is JSON; else its last line if that is a JSON object or array; else its text (of more than 1 MiB the end, which
    says so). ``json`` insists on JSON, ``text`` on the whole and never looks for JSON, ``none`` gives None. Raises
    :class:`AttemptError` of type ``bad_output``, not retryable.
    """
    if mode == "none":
        return None
    written = _read_file(output_file)
    if written is not None:
        return _from_file(mode, written)
    whole = collected.whole
    if mode == "text" and whole is None:
        raise _too_much(collected)
    if mode == "text":
        return collected.text
    if whole is not None and whole.strip():
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(whole)
    text = collected.text
    last = text.rpartition("\n")[2].strip()
    if last[:1] in ("{", "["):
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(last)
    if mode == "json":
        if whole is None:
            raise _too_much(collected)
        raise _bad(f"stdout is not JSON, and neither is its last line: {last[:200]!r}")
    return text or None


def _from_file(mode: OutputMode, written: bytes) -> Any:
    if mode != "text":
        try:
            return msgspec.json.decode(written)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if mode == "json":
                raise _bad(f"the file $HEADRACE_OUTPUT is not JSON: {error}") from None
    return written.decode("utf-8", "replace").strip()


def _read_file(path: str) -> bytes | None:
    """The file's content and then no file, so that an empty work folder goes quickly; None if nothing was written."""
    try:
        size = os.stat(path).st_size  # noqa: PTH116 - pathlib costs more than the call
    except OSError:
        return None
    if size > OUTPUT_FILE_BYTES_MAX:
        raise _bad(
            f"the file $HEADRACE_OUTPUT is {size:,} bytes, at most {OUTPUT_FILE_BYTES_MAX:,} are taken as a result; "
            "keep large data in files of its own and return their paths"
        )
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            written = _read_regular(file)
        os.unlink(path)  # noqa: PTH108
    except OSError as error:
        raise _bad(f"the file $HEADRACE_OUTPUT cannot be read: {error}") from None
    return written if written.strip() else None


def _open_at_once(path: str, flags: int) -> int:
    # A command may put a pipe there; opening one waits for a writer, and the whole node would wait with it.
    return os.open(path, flags | os.O_NONBLOCK)


def _read_regular(file: BinaryIO) -> bytes:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a device may have no end
        raise _bad("the file $HEADRACE_OUTPUT cannot be read: it is a pipe or a device, not a file")
    return file.read(OUTPUT_FILE_BYTES_MAX + 1)


def _too_much(collected: OutputCollector) -> AttemptError:
    return _bad(
        f"stdout is {collected.stdout_bytes:,} bytes, at most {STDOUT_BYTES_MAX:,} are taken as a result; "
        "write large results to the file $HEADRACE_OUTPUT"
    )


def _bad(message: str) -> AttemptError:
    return AttemptError("bad_output", message, retryable=False)
