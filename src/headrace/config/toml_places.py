"""Where a key stands in a TOML text. The standard library's reader does not say; this looks again, only when a problem
has to be shown. The text is known to be valid TOML (or valid up to where the reader gave up)."""

from __future__ import annotations

import re

Position = tuple[int, int]
"""Line and column, from 1."""

Path = tuple[str, ...]

_BARE = r"[A-Za-z0-9_-]+"
_QUOTED = r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\''
_NAME = re.compile(rf"{_BARE}|{_QUOTED}")
_DOTTED = rf"(?:{_BARE}|{_QUOTED})(?:[ \t]*\.[ \t]*(?:{_BARE}|{_QUOTED}))*"
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*({_DOTTED})[ \t]*\]\]?")
_PAIR = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=[ \t]*")
_SKIPPED = re.compile(r"(?:[ \t\r\n,]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}|\'\'\'.*?\'{3,5}|' + _QUOTED,
    re.DOTALL,
)
_SCALAR = re.compile(r"[^\s,\]}#]+(?:[ \t][0-9][^\s,\]}#]*)?")


def places(text: str) -> dict[Path, tuple[Position, Position]]:
    """The positions of every key and of its value, by path. Of a key that is given twice, the first."""
    scanner = _Scanner(text)
    scanner.document()
    return {path: (_position(text, key), _position(text, value)) for path, (key, value) in scanner.found.items()}


def _position(text: str, offset: int) -> Position:
    start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - start + 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, tuple[int, int]] = {}

    def document(self) -> None:
        """The whole text; stops where it is not TOML."""
        table: Path = ()
        while True:
            self.skip()
            if self.at >= len(self.text):
                return
            header = _HEADER.match(self.text, self.at)
            if header is not None:
                table = _names(header[1])
                self.note(table, header.start(1), header.start(1))
                self.at = header.end()
            elif not self.pair(table):
                return

    def skip(self) -> None:
        found = _SKIPPED.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def note(self, path: Path, key: int, value: int) -> None:
        for length in range(1, len(path) + 1):
            self.found.setdefault(path[:length], (key, value))

    def pair(self, table: Path) -> bool:
        found = _PAIR.match(self.text, self.at)
        if found is None:
            return False
        path = (*table, *_names(found[1]))
        self.note(path, found.start(1), found.end())
        self.at = found.end()
        return self.value(path)

    def value(self, path: Path) -> bool:
        opening = self.text[self.at : self.at + 1]
        if opening in ("[", "{"):
            self.at += 1
            return self.collection(path, "]" if opening == "[" else "}")
        found = _STRING.match(self.text, self.at) or _SCALAR.match(self.text, self.at)
        if found is None:
            return False
        self.at = found.end()
        return True

    def collection(self, path: Path, closing: str) -> bool:
        index = 0
        while True:
            self.skip()
            if self.text[self.at : self.at + 1] == closing:
                self.at += 1
                return True
            if closing == "]":
                here = (*path, str(index))
                self.note(here, self.at, self.at)
                if not self.value(here):
                    return False
                index += 1
            elif not self.pair(path):
                return False


def _names(dotted: str) -> Path:
    return tuple(name[1:-1] if name[0] in "\"'" else name for name in _NAME.findall(dotted))
