"""From a target's name to the function: ``module:qualname`` or ``path/file.py:qualname``.

A module is looked for in the workflow's own folder first, then on Python's path. While it is imported its folder is at
the front of ``sys.path``, as for a script; afterwards it stays at the end, so that imports inside functions work but a
user's ``queue.py`` never shadows the standard library for the engine. A module whose name is already taken by another
file (two workflows with a ``tasks.py``, or a ``calendar.py`` of one's own) is loaded under a unique name.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from headrace.contracts.outcome import message_of, user_traceback
from headrace.core.errors import UserCodeError

_import_lock = threading.RLock()

SUGGESTION_FILES_MAX = 2_000
"""Files of a folder that are looked at for a "did you mean"."""


def resolve(target: str, source_dir: str | None, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The plain function behind a target; a decorated task function is unwrapped. Raises :class:`UserCodeError` with
    the user's own traceback when the code cannot be imported, found or called."""
    given = functions.get(target)
    if given is not None:
        return _unwrap(given, target)
    module_name, colon, qualname = target.rpartition(":")
    if not colon or not module_name or not qualname:
        raise UserCodeError(
            f"{target!r} does not name a function",
            hint='write "module:function" or "path/file.py:function"',
        )
    if "<locals>" in qualname or "<lambda>" in qualname:
        raise UserCodeError(
            f"{target!r} is defined inside another function and cannot be imported by name",
            hint="move it to the top level of its module",
        )
    is_file = module_name.endswith(".py") or "/" in module_name
    module = _import_file(module_name, source_dir) if is_file else _import_module(module_name, source_dir)
    return _unwrap(_find(module, qualname, target), target)


def _unwrap(found: Any, target: str) -> Callable[..., Any]:
    function = getattr(found, "__headrace_function__", found)
    if not callable(function):
        raise UserCodeError(
            f"{target!r} is {_article(type(function).__name__)}, not a function",
            hint="name a function, a method of a class or a callable object",
        )
    return function


def _find(module: ModuleType, qualname: str, target: str) -> Any:
    found: Any = module
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            names = [name for name in dir(found) if not name.startswith("_") and callable(getattr(found, name, None))]
            close = difflib.get_close_matches(part, names, n=3)
            where = getattr(module, "__file__", None) or module.__name__
            shown = ", ".join(sorted(names)[:10]) or "nothing callable"
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has: {shown}"
            raise UserCodeError(f"{target!r}: there is no {part!r} in {where}", hint=hint) from None
    return found


# ---- modules by name ------------------------------------------------------------------------------------------------


def _import_module(name: str, source_dir: str | None) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserCodeError(
            f"{name!r} is not a module name",
            hint='write "package.module:function", or "path/file.py:function" for a file',
        )
    with _import_lock:
        own = _own_file(name, source_dir) if source_dir else None
        if own is not None:
            loaded = sys.modules.get(name)
            if loaded is not None and not _is_file(loaded, own):
                return _load_as(_unique_name(own), own, source_dir)
        return _guarded(lambda: importlib.import_module(name), name, source_dir)


def _own_file(name: str, source_dir: str) -> Path | None:
    """The file of a module that lives in the workflow's folder, without importing anything."""
    folder = Path(source_dir)
    *packages, last = name.split(".")
    for package in packages:
        folder = folder / package
        if not folder.is_dir():
            return None
    for candidate in (folder / last / "__init__.py", folder / f"{last}.py"):
        if candidate.is_file():
            return candidate.resolve()
    return None


def _is_file(module: ModuleType, file: Path) -> bool:
    known = getattr(module, "__file__", None)
    return known is not None and Path(known).resolve() == file


# ---- modules by file ------------------------------------------------------------------------------------------------


def _import_file(name: str, source_dir: str | None) -> ModuleType:
    path = Path(name)
    if not path.is_absolute():
        path = Path(source_dir or ".") / path
    path = path.resolve()
    if not path.is_file():
        folder = path.parent
        close = difflib.get_close_matches(path.name, _python_files(folder), n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"looked in {folder}"
        raise UserCodeError(f"there is no file {path}", hint=hint)
    with _import_lock:
        return _load_as(_unique_name(path), path, str(path.parent))


def _unique_name(path: Path) -> str:
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:10]
    stem = path.parent.name if path.name == "__init__.py" else path.stem
    return f"_headrace_{digest}_{stem}"


def _load_as(name: str, path: Path, source_dir: str | None) -> ModuleType:
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded

    def load() -> ModuleType:
        loader = importlib.machinery.SourceFileLoader(name, str(path))
        search = [str(path.parent)] if path.name == "__init__.py" else None
        spec = importlib.util.spec_from_file_location(name, path, loader=loader, submodule_search_locations=search)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        module.__dict__["__headrace_script__"] = True  # other processes find it by its path, not by this name
        sys.modules[name] = module
        try:
            loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return module

    return _guarded(load, str(path), source_dir)


# ---- running an import ----------------------------------------------------------------------------------------------


def _guarded(load: Callable[[], ModuleType], name: str, source_dir: str | None) -> ModuleType:
    """Import with the folder in reach; whatever goes wrong becomes a :class:`UserCodeError`."""
    already = source_dir is not None and sys.path[:1] == [source_dir]
    if source_dir is not None and not already:
        sys.path.insert(0, source_dir)
    importlib.invalidate_caches()  # the file may be younger than the finder's listing of its folder
    try:
        return load()
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise _unknown_module(name, source_dir) from None
        raise UserCodeError(
            f"importing {name!r} failed: {message_of(error)}",
            traceback=user_traceback(error),
            hint="install it in the Python environment that runs Headrace, or mend the import",
        ) from None
    except (Exception, SystemExit) as error:
        hint = "the module's own top-level code raised this; mend it there"
        if isinstance(error, RuntimeError) and "asyncio.run()" in str(error):
            hint = 'it runs as soon as it is imported: put that under `if __name__ == "__main__":`'
        raise UserCodeError(
            f"importing {name!r} failed: {type(error).__name__}: {message_of(error)}",
            traceback=user_traceback(error),
            hint=hint,
        ) from None
    finally:
        if source_dir is not None and not already:
            if source_dir in sys.path:
                sys.path.remove(source_dir)
            if source_dir not in sys.path:
                sys.path.append(source_dir)


def _unknown_module(name: str, source_dir: str | None) -> UserCodeError:
    names: list[str] = []
    if source_dir is not None:
        names = [file.removesuffix(".py") for file in _python_files(Path(source_dir))]
    close = difflib.get_close_matches(name, names, n=3)
    searched = f"searched {source_dir} and Python's path" if source_dir else "searched Python's path"
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "check the name, or install the package"
    return UserCodeError(f"there is no module {name!r} ({searched})", hint=hint)


def _python_files(folder: Path) -> list[str]:
    found: list[str] = []
    try:
        for count, entry in enumerate(folder.iterdir()):
            if count >= SUGGESTION_FILES_MAX:
                break
            if entry.suffix == ".py" or (entry / "__init__.py").is_file():
                found.append(entry.name)
    except OSError:
        return []
    return found


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"
