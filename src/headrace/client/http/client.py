"""The client over HTTP."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, Self, TypeVar, overload

import msgspec

from headrace.client.definitions import WorkflowText
from headrace.client.http.handle import HttpRunHandle
from headrace.client.http.link import Link
from headrace.client.http.naming import RUN_ID_LENGTH, RemoteWorkflow, checked, named, quoted
from headrace.client.http.parse import reason_of, row_of, view_of
from headrace.client.why import Reason
from headrace.contracts.api import answers
from headrace.contracts.api.bounds import PAGE_MAX, WAIT_SECONDS_MAX
from headrace.contracts.execution import LogEntry
from headrace.contracts.store import RunRow
from headrace.core.codec import decode_event
from headrace.core.errors import InvalidCommand, NotFound
from headrace.core.events import Event, Failure
from headrace.core.ids import RunId
from headrace.core.spec import AnySpec, decode_any_spec
from headrace.core.times import iso
from headrace.core.view import RunView
from headrace.durable.start import OnConflict, OnReuse
from headrace.durable.workflow import WorkflowFunction
from headrace.engine.minting import new_run_id

P = ParamSpec("P")
R = TypeVar("R")


class HttpClient:
    """Asks a server for what :class:`headrace.Headrace` does in process: same names, handles and errors. Use
    :func:`headrace.connect`, as ``async with connect("http://mill:7233", token=...) as headrace:``.

    ``hear_seconds``: how long a command waits until the run's owner has taken it up. Refusals raise what they raise in
    process; :class:`ServerUnavailable` if the server stays away, :class:`NotAuthorized` if the token may not do this.
    Nothing here carries runs out: leaving stops nothing."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        patience_seconds: float = 15.0,
        hear_seconds: float = 0.0,
    ) -> None:
        self.link = Link(url, token, tls=tls, patience_seconds=patience_seconds)
        self._hear_seconds = min(hear_seconds, WAIT_SECONDS_MAX)
        self._unheard: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections. Idempotent."""
        await self.link.close()

    # ---- starting ----------------------------------------------------------------------------------------------------

    @overload
    async def run(
        self,
        workflow: WorkflowFunction[..., R],
        params: Mapping[str, Any] | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        from_strings: AbstractSet[str] = frozenset(),
        key: str | None = None,
        on_conflict: OnConflict = "fail",
        on_reuse: OnReuse = "allow",
        attributes: Mapping[str, Any] | None = None,
        memo: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> HttpRunHandle[R]: ...
    @overload
    async def run(
        self,
        workflow: RemoteWorkflow,
        params: Mapping[str, Any] | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        from_strings: AbstractSet[str] = frozenset(),
        key: str | None = None,
        on_conflict: OnConflict = "fail",
        on_reuse: OnReuse = "allow",
        attributes: Mapping[str, Any] | None = None,
        memo: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> HttpRunHandle[Any]: ...
    async def run(
        self,
        workflow: RemoteWorkflow,
        params: Mapping[str, Any] | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        from_strings: AbstractSet[str] = frozenset(),
        key: str | None = None,
        on_conflict: OnConflict = "fail",
        on_reuse: OnReuse = "allow",
        attributes: Mapping[str, Any] | None = None,
        memo: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> HttpRunHandle[Any]:
        """Start a run; durable on return. ``request_id``: asked again with the same one, nothing is started and the first
        run is returned, as long as that is kept. Without one, or with a key, a request whose answer is lost raises
        :class:`ServerUnavailable`, and what became of it is to be looked up. The rest as in process."""
        body = {
            **named(workflow),
            "params": dict(params or {}),
            "texts": sorted(from_strings) or None,
            "tags": dict(tags or {}),
            "attributes": dict(attributes or {}),
            "memo": dict(memo or {}),
            "key": key,
            "on_conflict": on_conflict,
            "on_reuse": on_reuse,
        }
        started = await self.link.post(
            "/runs", answers.Run, body, repeatable=request_id is not None, request=request_id
        )
        convert = workflow.convert_result if isinstance(workflow, WorkflowFunction) else None
        return HttpRunHandle(self, started.id, convert)

    async def start(self, workflow: WorkflowFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> HttpRunHandle[R]:
        """Start a run of a code workflow that the server has stored, with its own arguments, checked by the type
        checker."""
        given = workflow.start_options
        return await self.run(
            workflow,
            workflow.bind(*args, **kwargs),
            key=given.key,
            on_conflict=given.on_conflict,
            on_reuse=given.on_reuse,
            tags=given.tags,
            attributes=given.attributes,
            memo=given.memo,
        )

    async def check(self, workflow: WorkflowText | Path | str) -> answers.Validation:
        """Everything that a start of a definition would be refused for, with its places; a file, or a text."""
        given = named(workflow)
        if "definition" not in given:
            raise InvalidCommand("a server checks files and texts; a stored workflow was checked when it was stored")
        return await self.link.post("/workflows/validate", answers.Validation, given, repeatable=True)

    # ---- looking -----------------------------------------------------------------------------------------------------

    async def get(self, run_id: str) -> HttpRunHandle[Any]:
        """A run by its id or the beginning of it. Raises :class:`NotFound`, also for an ambiguous beginning."""
        return HttpRunHandle(self, await self._full_id(run_id))

    async def _full_id(self, run_id: str) -> RunId:
        return RunId(run_id.lower()) if len(run_id) == RUN_ID_LENGTH else (await self.row(run_id)).run_id

    async def row(self, run_id: str) -> RunRow:
        """One run as lists show it. Raises :class:`NotFound`."""
        given = run_id.lower()
        if not given.isalnum() or not given.isascii():
            raise NotFound(f"there is no run {run_id!r}", hint="headrace runs list")
        test = "=" if len(given) == RUN_ID_LENGTH else "prefix"
        found = await self.runs(where=f"id {test} '{given}'", limit=6)
        if not found:
            raise NotFound(f"there is no run {run_id!r}", hint="headrace runs list")
        if len(found) > 1:
            names = ", ".join(one.run_id for one in found[:5])
            raise NotFound(f"{run_id!r} could be {names} and more", hint="give more characters")
        return found[0]

    async def find(self, workflow: str, key: str) -> HttpRunHandle[Any] | None:
        """The latest run of a workflow's business key, ended or not; None if there is none."""
        if "'" in key and '"' in key:
            raise InvalidCommand(f"key={key!r}: a key with both sorts of quotes cannot be looked for over HTTP")
        mark = '"' if "'" in key else "'"
        found = await self.runs(workflow=workflow, where=f"key = {mark}{key}{mark}", limit=1)
        return HttpRunHandle(self, found[0].run_id) if found else None

    async def runs(
        self,
        *,
        workflow: str | None = None,
        states: tuple[str, ...] = (),
        tags: Mapping[str, str] | None = None,
        before: str | None = None,
        limit: int = 50,
        where: str | None = None,
        since: float | None = None,
    ) -> list[RunRow]:
        """Runs, newest first, as in process; more than a page are read one after the other."""
        query: dict[str, Any] = {
            "workflow": workflow,
            "state": states,
            "tag": [f"{name}={value}" for name, value in (tags or {}).items()],
            "where": where,
            "since": iso(since),
            "cursor": before,
        }
        found: list[RunRow] = []
        while len(found) < limit:
            page = await self.link.get("/runs", answers.Runs, query | {"limit": min(limit - len(found), PAGE_MAX)})
            found += [row_of(run) for run in page.runs]
            if page.next is None:
                break
            query["cursor"] = page.next
        return found

    async def show(self, run_id: str, *, items: bool = False) -> RunView:
        """A run with its tasks, and with its large values as far as an answer holds them. Raises :class:`NotFound`."""
        return view_of(await self.link.get(f"/runs/{checked(run_id)}", answers.Run, {"items": items}))

    async def definition_of(self, run_id: str) -> AnySpec:
        """The definition a run keeps. Raises :class:`NotFound`."""
        told = await self.link.get(f"/runs/{checked(run_id)}/definition", answers.Definition)
        return decode_any_spec(msgspec.json.encode(told.definition))

    async def why(self, run_id: str) -> list[Reason]:
        """What keeps a run from its end. Raises :class:`NotFound`."""
        told = await self.link.get(f"/runs/{checked(run_id)}/why", answers.Reasons)
        return [reason_of(one) for one in told.reasons]

    async def refused_by(self, run_id: str) -> dict[str, str]:
        """The nodes that are up and cannot take a run over, with the reason each gives. Raises :class:`NotFound`."""
        refused = (await self.link.get(f"/runs/{checked(run_id)}", answers.Run)).refused_by
        return {} if refused is msgspec.UNSET else refused

    async def value(self, value: Any) -> Any:
        """The value: a server sends large ones themselves, as far as an answer holds them."""
        return value

    async def logs(self, run_id: str, task: str | None = None) -> list[LogEntry]:
        """The text output of a run's attempts. Raises :class:`NotFound`."""
        found: list[LogEntry] = []
        after: int | None = 0
        while after is not None:
            query = {"task": task, "after": after}
            page = await self.link.get(f"/runs/{checked(run_id)}/logs", answers.Logs, query)
            found += [LogEntry(task=one.task, item=one.item, attempt=one.attempt, text=one.text) for one in page.logs]
            after = page.next
        return found

    async def history(self, run_id: str, *, resolve: bool = False) -> list[Event]:
        """A run's events, in order; with ``resolve`` large values stand for themselves, as far as answers hold them."""
        found: list[Event] = []
        after: int | None = 0
        while after is not None:
            query = {"after": after, "values": resolve}
            page = await self.link.get(f"/runs/{checked(run_id)}/history", answers.History, query)
            found += [decode_event(msgspec.json.encode(one.event)) for one in page.events]
            after = page.next
        return found

    async def workflows(self) -> list[answers.ListedWorkflow]:
        """The latest version of every stored workflow."""
        return (await self.link.get("/workflows", answers.Workflows)).workflows

    async def workflow(self, name: str) -> answers.Workflow:
        """A stored workflow, with a JSON Schema of its params. Raises :class:`NotFound`."""
        return await self.link.get(f"/workflows/{quoted(name)}", answers.Workflow)

    async def nodes(self) -> list[answers.Node]:
        """The nodes and workers, those that were lost lately among them."""
        return (await self.link.get("/nodes", answers.Nodes)).nodes

    async def locks(self) -> list[answers.Lock]:
        """The locks that are held."""
        return (await self.link.get("/locks", answers.Locks)).locks

    async def watch(self, run_id: str, *, interval_seconds: float = 0.2) -> AsyncIterator[RunView]:
        """The run again and again: now, whenever it has changed (at most once per interval), and at its end."""
        handle = await self.get(run_id)
        async with contextlib.aclosing(handle.watch(interval_seconds=interval_seconds)) as views:  # type: ignore[type-var]
            async for view in views:
                yield view

    # ---- commanding --------------------------------------------------------------------------------------------------

    async def cancel(self, run_id: str, reason: str = "") -> HttpRunHandle[Any]:
        """As in process: :meth:`headrace.client.client.Client.cancel`."""
        return await self._command(run_id, "cancel", {"reason": reason})

    async def pause(self, run_id: str, reason: str = "") -> HttpRunHandle[Any]:
        """As in process."""
        return await self._command(run_id, "pause", {"reason": reason})

    async def resume(self, run_id: str) -> HttpRunHandle[Any]:
        """As in process."""
        return await self._command(run_id, "resume", {})

    async def retry(self, run_id: str, tasks: tuple[str, ...] = (), reason: str = "") -> HttpRunHandle[Any]:
        """As in process."""
        return await self._command(run_id, "retry", {"tasks": tasks, "reason": reason})

    async def terminate(self, run_id: str, reason: str = "") -> HttpRunHandle[Any]:
        """As in process."""
        return await self._command(run_id, "terminate", {"reason": reason})

    async def reset(
        self,
        run_id: str,
        *,
        to_event: int | None = None,
        to_task: str | None = None,
        reapply_signals: bool = True,
        reason: str = "",
    ) -> HttpRunHandle[Any]:
        """As in process."""
        return await self._again("reset", run_id, to_event, to_task, reapply_signals, reason)

    async def fork(
        self,
        run_id: str,
        *,
        to_event: int | None = None,
        to_task: str | None = None,
        reapply_signals: bool = False,
        reason: str = "",
    ) -> HttpRunHandle[Any]:
        """As in process."""
        return await self._again("fork", run_id, to_event, to_task, reapply_signals, reason)

    async def _again(
        self, verb: str, run_id: str, to_event: int | None, to_task: str | None, reapply: bool, reason: str
    ) -> HttpRunHandle[Any]:
        body = {"to_event": to_event, "to_task": to_task, "reapply_signals": reapply, "reason": reason}
        made = await self.link.post(f"/runs/{checked(run_id)}/{verb}", answers.Run, body)
        return HttpRunHandle(self, made.id)

    async def signal(
        self, run_id: str, name: str, payload: Any = None, *, key: str | None = None
    ) -> HttpRunHandle[Any]:
        """As in process. With a ``key`` it is sent again if its answer was lost."""
        body = {"payload": payload, "key": key}
        return await self._command(run_id, f"signals/{quoted(name)}", body, repeatable=key is not None)

    async def query(self, run_id: str, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """As in process."""
        path = f"/runs/{checked(run_id)}/queries/{quoted(name)}"
        body = {"args": args, "kwargs": kwargs}
        return (await self.link.post(path, answers.Value, body, repeatable=True)).value

    async def update(self, run_id: str, name: str, /, *args: Any, update_id: str | None = None, **kwargs: Any) -> Any:
        """As in process: waits for the answer, however long that takes. It is asked again if an answer was lost."""
        path = f"/runs/{checked(run_id)}/updates/{quoted(name)}"
        body = {"args": args, "kwargs": kwargs, "id": update_id or new_run_id()}
        query = {"wait": f"{WAIT_SECONDS_MAX:g}s"}
        while True:
            told = await self.link.post(path, answers.Answered, body, query, wait=WAIT_SECONDS_MAX, repeatable=True)
            if told.answered:
                return told.value

    async def _command(
        self, run_id: str, verb: str, body: Mapping[str, Any], *, repeatable: bool = False
    ) -> HttpRunHandle[Any]:
        wait = self._hear_seconds
        told = await self.link.post(
            f"/runs/{checked(run_id)}/{verb}",
            answers.Commanded,
            body,
            {"wait": f"{wait:.3f}s"},
            wait=wait,
            repeatable=repeatable,
        )
        if told.heard:
            self._unheard.discard(told.run.id)
        else:
            self._unheard.add(told.run.id)
        return HttpRunHandle(self, told.run.id)

    # ---- attempts completed from outside -----------------------------------------------------------------------------

    async def complete(self, token: str, output: Any = None) -> None:
        """As in process."""
        await self.link.post("/attempts/complete", answers.Done, {"token": token, "output": output})

    async def fail(self, token: str, error: BaseException | str | Failure, *, retryable: bool | None = None) -> None:
        """As in process."""
        if isinstance(error, Failure):
            kind, message = error.type, error.message
        elif isinstance(error, BaseException):
            kind, message = type(error).__name__, str(error) or type(error).__name__
        else:
            kind, message = "failed", error
        body = {"token": token, "type": kind, "error": message, "retryable": retryable}
        await self.link.post("/attempts/fail", answers.Done, body)

    async def heartbeat(self, token: str, details: Any = None) -> None:
        """As in process."""
        body = {"token": token, "details": details}
        await self.link.post("/attempts/heartbeat", answers.Done, body, repeatable=True)

    # ---- for the command line, which asks both clients the same ------------------------------------------------------

    def live(self, run_id: RunId) -> None:
        """No run is in this process's memory."""

    async def settled(self, run_id: str) -> None:
        """What a server has answered is durable."""

    async def heard(self, run_id: str) -> bool:
        """Whether the owner of a run had taken the last command up when the server answered."""
        return run_id not in self._unheard

    # ---- in process only ---------------------------------------------------------------------------------------------

    def lock(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: a lock lives with a node's lease."""
        self._refuse("lock", "tasks take locks with headrace.lock(...)")

    async def replay(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: replaying runs the code where it is asked."""
        self._refuse("replay", "replay a history from a file: headrace replay")

    async def register(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: a server stores the workflow files of its configuration."""
        self._refuse("register", "name the file among the server's `workflows`, or run a definition")

    async def signal_with_start(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        self._refuse("signal_with_start", "start the run with its key, then send the signal")

    async def update_with_start(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        self._refuse("update_with_start", "start the run with its key, then ask for the update")

    def _refuse(self, name: str, hint: str) -> NoReturn:
        raise InvalidCommand(f"{name} works in process only, not over HTTP", hint=hint)
