"""Workflows in Python files: the file is run, and the graph or the @workflow function it leaves at its top level is the
workflow."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from headrace.authoring.builder import Dag
from headrace.authoring.loaded import Loaded
from headrace.core.errors import InvalidDefinition, NotFound, Problem, UserCodeError
from headrace.core.suggest import did_you_mean, listed

_OUR_FOLDER = str(Path(__file__).parents[1])


def load_python(source: str | Path) -> Loaded:
    """Read ``path/file.py`` or ``path/file.py:name``.

    Without a name the file must define exactly one workflow; the name is a variable's or a workflow's. The file's
    folder is on ``sys.path`` while it runs and, at the end of it, afterwards. Raises :class:`NotFound`,
    :class:`UserCodeError` with the user's own frames, and :class:`InvalidDefinition`.
    """
    path, name = _split(str(source))
    module = _loaded_module(path)
    return _loaded(_choose(_workflows(module), module, path, name), path)


def load_all_python(path: Path, *, may_be_none: bool = False) -> list[Loaded]:
    """Every workflow that a file defines, in order; imported ones are not among them. Raises like :func:`load_python`;
    with ``may_be_none`` a file without workflows is none."""
    module = _loaded_module(path)
    own = _own(_workflows(module), module)
    if not own and not may_be_none:
        _choose({}, module, path, None)
    return [_loaded(found, path) for found in {id(found): found for found in own.values()}.values()]


def _loaded_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFound(f"there is no file {str(path)!r}")
    try:
        return _run(path)
    except InvalidDefinition:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        text = user_frames(error, path)
        raise UserCodeError(
            f"{path} cannot be loaded: {type(error).__name__}: {error}", hint=_hint(error), traceback=text
        ) from error


def _loaded(found: Any, path: Path) -> Loaded:
    return Loaded(
        spec=found.spec,
        source=str(path),
        source_dir=str(path.resolve().parent),
        functions=dict(found.functions),
        locate=lambda where: f"{path}: {'.'.join(map(str, where))}",
    )


def user_frames(error: BaseException, path: Path) -> str:
    """The traceback from the first line of the user's file on, without Headrace's and the import system's frames."""
    if isinstance(error, SyntaxError):
        return "".join(traceback.format_exception_only(error))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_OUR_FOLDER, "<frozen importlib"))
    ]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    return "".join([*lines, *traceback.format_exception_only(error)])


def _split(source: str) -> tuple[Path, str | None]:
    if source.endswith(".py"):
        return Path(source), None
    path, colon, name = source.rpartition(":")
    return (Path(path), name or None) if colon else (Path(source), None)


def _hint(error: BaseException) -> str | None:
    if isinstance(error, SystemExit):
        return 'the file ended the program; put what is not the definition under `if __name__ == "__main__":`'
    if isinstance(error, ModuleNotFoundError):
        return "install the module, or put it beside the file"
    return None


def _run(path: Path) -> ModuleType:
    path = path.resolve()
    folder = str(path.parent)
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    if name != path.stem:
        # No other process can import it by this name: its functions are known by the file.
        module.__dict__["__headrace_script__"] = True
    before = sys.modules.get(name)
    sys.modules[name] = module
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
    return module


def _module_name(path: Path) -> str:
    """The file's own name, so that ``module:function`` finds it again; a unique one if that is taken or is no name."""
    name = path.stem
    if name.isidentifier():
        taken = sys.modules.get(name)
        found = importlib.util.find_spec(name) if taken is None else None
        file = getattr(taken, "__file__", None) or (found.origin if found is not None else None)
        if (taken is None and found is None) or (file is not None and Path(file).resolve() == path):
            return name
    return f"headrace_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def _workflows(module: ModuleType) -> dict[str, Any]:
    """Graphs and code workflows by variable. Code is known by a mark: it lives a floor above this one."""
    return {
        name: value
        for name, value in vars(module).items()
        if (isinstance(value, Dag) or getattr(type(value), "is_code_workflow", False)) and not name.startswith("_")
    }


def _own(workflows: dict[str, Any], module: ModuleType) -> dict[str, Any]:
    """Code that the file only imports, to start it as a child, is not what it defines."""
    return {
        variable: found
        for variable, found in workflows.items()
        if isinstance(found, Dag) or found.__module__ == module.__name__
    }


def _choose(workflows: dict[str, Any], module: ModuleType, path: Path, name: str | None) -> Any:
    if name is not None:
        for variable, found in workflows.items():
            if name in (variable, found.spec.name):
                return found
        hint = did_you_mean(name, workflows, what="workflows")
        raise NotFound(f"{path} defines no workflow {name!r}", hint=hint)
    dags = _own(workflows, module)
    distinct: dict[int, Any] = {id(found): found for found in dags.values()}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    if not distinct:
        hint = "define one at the top level: `with dag(...) as d:`, or a function with @dag or @workflow"
        raise InvalidDefinition([Problem("the file defines no workflow", hint=hint)], source=str(path))
    hint = f"say which: {path}:{next(iter(dags))}"
    problem = Problem(f"the file defines {len(distinct)} workflows: {listed(dags)}", hint=hint)
    raise InvalidDefinition([problem], source=str(path))
