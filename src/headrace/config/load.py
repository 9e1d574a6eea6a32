"""Reading the configuration: a file, then the environment, then the command line; the later wins, key by key.

Every problem is told at once, with file, line and column or the name of the variable. Nothing is half used: with one
problem there is no configuration.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, cast

import msgspec

from headrace.config.keys import KEYS, SECTIONS, Key, Path, settings_of
from headrace.config.settings import Settings
from headrace.core.errors import InvalidConfiguration, NotFound, Problem
from headrace.core.suggest import did_you_mean

NAMES = ("headrace.toml", "headrace.yaml", "headrace.yml")
"""Files that are looked for in the working directory."""

FILE_VARIABLE = "HEADRACE_CONFIG"
POD_VARIABLE = "POD_NAME"
"""How Kubernetes tells a process the name of its pod (downward API), if the manifest asks for it."""

LEVEL_VARIABLE = "HEADRACE_LOG"
"""The short form of ``HEADRACE_LOG__LEVEL``."""

FILE_BYTES_MAX = 1024 * 1024
SECRET_BYTES_MAX = 64 * 1024
PROBLEMS_MAX = 50

_PREFIX = "HEADRACE_"


class Given(msgspec.Struct, frozen=True):
    """A value that somebody gave. ``origin`` says who, for people; ``where`` is the place for messages, found late
    because that parses the file again. ``secret`` names what the value was taken from."""

    value: Any
    origin: str
    where: Callable[[], str]
    secret: str | None = None


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What a process goes by. ``given``: the keys that are not at their default. ``file``: the configuration file, None
    if there is none. ``watched``: files whose change can change the settings: the file and those of secrets."""

    settings: Settings = Settings()
    given: Mapping[Path, Given] = {}
    file: FilePath | None = None
    watched: tuple[FilePath, ...] = ()

    def origin(self, path: Path) -> str:
        """Where a key's value comes from, for people: ``headrace.toml:3:1``, a variable, an option, or the default."""
        given = self.given.get(path)
        return "default" if given is None else given.where()


def find_file(named: str | None, environment: Mapping[str, str]) -> FilePath | None:
    """The configuration file: the one that is named, else the variable's, else one in the working directory; None if
    there is none. Raises :class:`NotFound` for one that is named and is not there, and
    :class:`InvalidConfiguration` if there are two in the working directory."""
    wanted = named or environment.get(FILE_VARIABLE)
    if wanted:
        path = FilePath(wanted)
        if not path.is_file():
            who = "--config" if named else FILE_VARIABLE
            raise NotFound(f"there is no configuration file {wanted!r}", hint=f"it was named by {who}")
        return path
    found = [FilePath(name) for name in NAMES if FilePath(name).is_file()]
    if len(found) > 1:
        names = " and ".join(map(str, found))
        problem = Problem(f"there are {names}", hint="keep one of them, or say which with --config FILE")
        raise InvalidConfiguration([problem])
    return found[0] if found else None


def load(
    named: str | None = None,
    *,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    use_environment: bool = True,
    only_right: bool = False,
    serving: bool = False,
) -> Configuration:
    """The configuration of this process.

    ``named``: a file (default: :func:`find_file`). ``overrides``: ``section.key=value`` texts of the command line.
    ``use_environment``: False reads the file alone, as ``headrace config check`` does. ``only_right``: take what is right
    and leave out what is not, to find the nodes of a configuration that somebody has just broken. ``serving``: a node
    that stays, which Kubernetes may have named (``POD_NAME``); a command in the same pod must not be taken for it. Raises
    :class:`InvalidConfiguration` with every problem, and :class:`NotFound`.
    """
    around = os.environ if environment is None else environment
    reader = _Reader(around)
    file = find_file(named, around)
    if file is not None:
        reader.file(file)
    if use_environment:
        reader.variables()
    for text in overrides:
        reader.override(text)
    if serving and use_environment:
        reader.pod_name()
    if reader.problems and not only_right:
        raise InvalidConfiguration(reader.problems[:PROBLEMS_MAX], more=len(reader.problems) - PROBLEMS_MAX)
    settings = settings_of({path: given.value for path, given in reader.given.items()})
    return Configuration(settings=settings, given=reader.given, file=file, watched=tuple(reader.watched))


class _Reader:
    """Collects values and problems."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.given: dict[Path, Given] = {}
        self.problems: list[Problem] = []
        self.watched: list[FilePath] = []

    # ---- the file ----------------------------------------------------------------------------------------------------

    def file(self, path: FilePath) -> None:
        """Every key of a TOML or YAML file."""
        self.watched.append(path)
        try:
            text = _text(path)
            data, locate = (_toml if path.suffix == ".toml" else _yaml)(text, str(path))
        except InvalidConfiguration as error:
            self.problems += error.problems
            return
        if not isinstance(data, dict):
            found = type(data).__name__
            self.problems.append(Problem(f"expected a mapping of keys to values, not {found}", where=f"{path}:1:1"))
            return
        first = len(self.problems)
        self._walk(cast("dict[str, Any]", data), (), locate, path)
        # In the order of the file, whatever the order of the keys.
        self.problems[first:] = sorted(self.problems[first:], key=lambda problem: _order(problem.where))

    def _walk(self, data: dict[str, Any], above: Path, locate: _Locate, file: FilePath) -> None:
        for name, value in data.items():
            path = (*above, name)
            key = KEYS.get(path)
            if key is not None:
                self._from_file(key, value, locate, file)
            elif len(path) == 1 and name in SECTIONS:
                if isinstance(value, dict):
                    self._walk(cast("dict[str, Any]", value), path, locate, file)
                elif value is not None:
                    self._problem(f"{name}: expected a section with keys, not {value!r}", "", locate(path, True))
            else:
                self._problem(f"unknown key {name!r}", _suggestion(path), locate(path, False))

    def _from_file(self, key: Key, value: Any, locate: _Locate, file: FilePath) -> None:
        if value is None:  # YAML: a key without a value
            return

        def where() -> str:
            return locate(key.path, True)

        if isinstance(value, dict) and key.kind != "mapping":
            self._secret(key, cast("dict[str, Any]", value), where, file)
            return
        self._take(key, value, str(file), where, folder=file.parent)

    def _secret(self, key: Key, reference: dict[str, Any], where: Callable[[], str], file: FilePath) -> None:
        """A value that is kept elsewhere: ``{env = "NAME"}`` or ``{file = "path"}``."""
        [(kind, name)] = reference.items() if len(reference) == 1 else [("", None)]
        if kind not in ("env", "file") or not isinstance(name, str) or not name or key.kind != "text":
            hint = 'a value that is kept elsewhere is written {env = "NAME"} or {file = "path"}'
            found = "a mapping" if key.kind == "text" else f"{reference!r}"
            self._problem(f"{key.name}: expected {key.expected}, not {found}", hint, where())
            return
        if kind == "env":
            value = self.environment.get(name)
            if value is None:
                self._problem(f"{key.name}: the environment variable {name} is not set", "", where())
                return
            source = f"the variable {name}"
        else:
            path = _beside(file.parent, name)
            self.watched.append(path)
            try:
                with path.open("rb") as stream:
                    value = stream.read(SECRET_BYTES_MAX).decode().rstrip("\r\n")
            except OSError as error:
                self._problem(f"{key.name}: the file {path} cannot be read: {error.strerror}", "", where())
                return
            except UnicodeDecodeError:
                self._problem(f"{key.name}: the file {path} is not text", "", where())
                return
            source = f"the file {path}"
        try:
            read = key.read(value)
        except ValueError:
            self._problem(f"{key.name}: what {source} holds is not {key.expected}", "", where())
            return
        self.given[key.path] = Given(read, str(file), where, secret=source)

    # ---- the environment and the command line ------------------------------------------------------------------------

    def variables(self) -> None:
        """``HEADRACE_STORE``, ``HEADRACE_SLOTS__THREADS`` and so on. An empty one counts as not set."""
        known = {key.variable: key for key in KEYS.values()}
        level = self.environment.get(LEVEL_VARIABLE, "").strip().lower()
        if level:
            self._named_value(KEYS["log", "level"], level, LEVEL_VARIABLE)
        for variable, text in self.environment.items():
            if not variable.startswith(_PREFIX) or not text:
                continue
            key = known.get(variable)
            if key is not None:
                self._named_value(key, text, variable)
            elif "__" in variable.removeprefix(_PREFIX):
                self._problem("unknown variable", did_you_mean(variable, known, what="variables"), variable)

    def pod_name(self) -> None:
        """The name of the pod, if nothing else names the node."""
        name = self.environment.get(POD_VARIABLE)
        key = KEYS["node", "name"]
        if name and key.path not in self.given:
            self._named_value(key, name, POD_VARIABLE)

    def override(self, text: str) -> None:
        """One ``section.key=value``."""
        name, mark, value = text.partition("=")
        path = tuple(part.strip() for part in name.split("."))
        if not mark or not name.strip():
            self._problem(f"--set {text}: expected section.key=value", "for example: --set slots.threads=8", "")
            return
        key = KEYS.get(path)
        if key is not None:
            self._named_value(key, value, f"--set {name.strip()}")
            return
        entry = KEYS.get(path[:-1])
        if entry is not None and entry.kind == "mapping":
            before = self.given.get(entry.path)
            merged = {**(before.value if before else entry.default), path[-1]: value}
            self._named_value(entry, merged, f"--set {name.strip()}")
            return
        self._problem(f"unknown key {name.strip()!r}", _suggestion(path), "--set")

    def _named_value(self, key: Key, value: Any, origin: str) -> None:
        self._take(key, value, origin, lambda: origin, from_text=True)

    # ---- both --------------------------------------------------------------------------------------------------------

    def _take(
        self,
        key: Key,
        value: Any,
        origin: str,
        where: Callable[[], str],
        *,
        from_text: bool = False,
        folder: FilePath | None = None,
    ) -> None:
        try:
            read = key.read(value, from_text=from_text)
        except ValueError as error:
            named = "" if origin == key.variable or origin.startswith("--set") else f"{key.name}: "
            self._problem(f"{named}{error}", "", where())
            return
        if folder is not None:
            read = _from_folder(key, read, folder)
        self.given[key.path] = Given(read, origin, where, secret="its value" if key.is_secret else None)

    def _problem(self, message: str, hint: str, where: str) -> None:
        self.problems.append(Problem(message, where=where, hint=hint))


_Locate = Callable[[Path, bool], str]
"""``file:line:column`` of a key or, if True, of its value."""


def _text(path: FilePath) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidConfiguration([Problem(f"cannot be read: {error.strerror}", where=str(path))]) from None
    if len(data) > FILE_BYTES_MAX:
        raise InvalidConfiguration([Problem(f"the file has more than {FILE_BYTES_MAX:,} bytes", where=str(path))])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        problem = Problem("the file is not UTF-8", where=f"{path}:{line}:{column}", hint="save it as UTF-8")
        raise InvalidConfiguration([problem]) from None


def _toml(text: str, source: str) -> tuple[Any, _Locate]:
    from headrace.config.toml_places import Position, places  # noqa: PLC0415 - only what is shown needs places

    found: dict[Path, tuple[Position, Position]] = {}

    def locate(path: Path, is_value: bool) -> str:
        if not found:
            found.update(places(text) or {(): ((1, 1), (1, 1))})
        line, column = found.get(path, ((1, 1), (1, 1)))[is_value]
        return f"{source}:{line}:{column}"

    try:
        return tomllib.loads(text), locate
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        words = place.rstrip(")").replace(",", "").split()  # "line 3, column 7" or "end of document"
        line, column = (words[1], words[3]) if words[:1] == ["line"] else (str(text.count("\n") + 1), "1")
        raise InvalidConfiguration([Problem(f"not TOML: {message}", where=f"{source}:{line}:{column}")]) from None
    except RecursionError:
        raise InvalidConfiguration([Problem("nested too deeply", where=source)]) from None


def _yaml(text: str, source: str) -> tuple[Any, _Locate]:
    from headrace.authoring.yaml.locate import Key as KeyPart  # noqa: PLC0415 - YAML is loaded when a file is read
    from headrace.authoring.yaml.locate import Locator  # noqa: PLC0415
    from headrace.authoring.yaml.reader import read_yaml  # noqa: PLC0415
    from headrace.core.errors import InvalidDefinition  # noqa: PLC0415

    try:
        data = read_yaml(text, source)
    except InvalidDefinition as error:
        raise InvalidConfiguration(error.problems) from None

    def locate(path: Path, is_value: bool) -> str:
        return Locator(text, data, source)(path if is_value else (*path[:-1], KeyPart(path[-1])))

    return {} if data is None else data, locate


def _suggestion(path: Path) -> str:
    name = path[-1]
    if len(path) == 1:
        # A key without its section is the likeliest slip.
        inside = [key.name for key in KEYS.values() if key.path[-1] == name]
        if inside:
            return f"did you mean {inside[0]!r}?"
        return did_you_mean(name, [*(key for (key, *rest) in KEYS if not rest), *SECTIONS], what="keys")
    if path[0] not in SECTIONS:
        return did_you_mean(path[0], SECTIONS, what="sections")
    return did_you_mean(name, [key for (section, *key) in KEYS if section == path[0] for key in key], what="keys")


def _order(where: str) -> tuple[int, int]:
    parts = where.rsplit(":", 2)
    numbers = [int(part) for part in parts[1:] if part.isdigit()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _beside(folder: FilePath, name: str) -> FilePath:
    return folder / FilePath(name).expanduser()


def _from_folder(key: Key, value: Any, folder: FilePath) -> Any:
    """Paths in a file are meant from the file's folder, so that a command given elsewhere with ``--config`` means the
    same. In the working directory they stay as they are written."""
    if folder in (FilePath(), FilePath.cwd()):
        return value
    if key.path == ("store",):
        rest = value.removeprefix("sqlite:///")
        if rest == value or not rest or rest.startswith("/"):
            return value
        return f"sqlite:///{(folder / rest).resolve()}"
    if key.extra.get("path"):
        if isinstance(value, str):
            return str((folder / value).resolve())
        return tuple(str(folder.resolve() / one) for one in value)
    return value
