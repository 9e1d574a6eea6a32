"""One run in a test environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic

from headrace.core import events as ev
from headrace.core.ids import RunId
from headrace.core.states import RunState
from headrace.core.view import RunView

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from headrace.assembly import Headrace
    from headrace.testing.environment import Environment

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")  # a default is for type checkers, and newer Pythons


class EnvironmentRun(Generic[R]):
    """A run under test; it outlives the engines that carry it. Commands are brought to it once, whatever crashes."""

    def __init__(self, environment: Environment, run_id: RunId, convert: Callable[[Any], R] | None = None) -> None:
        self._env = environment
        self._convert = convert
        self.id = run_id

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    async def wait(self) -> RunView:
        """Let time pass until the run, and every run that continues it, has ended; returns the last one.

        Raises ``AssertionError`` if that takes longer than the environment's horizon."""
        run_id = self.id
        while True:
            await self._env.until_ended(run_id)
            view = await self._env.ask(lambda hr, run_id=run_id: hr.show(run_id))
            if view.state != RunState.CONTINUED or view.next_run is None:
                return view
            run_id = RunId(view.next_run)

    async def result(self) -> R:
        """The run's output, once it has ended, of the type that the workflow function says. Raises
        :class:`RunFailed` and :class:`RunCancelled`."""
        view = await self.wait()

        async def result(hr: Headrace) -> Any:
            return await (await hr.get(view.id)).result()

        output = await self._env.ask(result)
        return output if self._convert is None else self._convert(output)

    async def show(self) -> RunView:
        """The run as of now."""
        return await self._env.ask(lambda hr: hr.show(self.id))

    async def signal(self, name: str, payload: Any = None, *, key: str | None = None) -> None:
        """Send a signal; durable on return. A repeated one with the same ``key`` is dropped."""
        key = key or self._env.new_name("signal")
        await self._env.tell(lambda hr: hr.signal(self.id, name, payload, key=key))

    async def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask a query."""
        return await self._env.ask(lambda hr: hr.query(self.id, name, *args, **kwargs))

    async def update(self, name: str, /, *args: Any, update_id: str | None = None, **kwargs: Any) -> Any:
        """Request an update and wait for its answer. A repeated one with the same ``update_id`` is not run again."""
        update_id = update_id or self._env.new_name("update")
        return await self._env.ask(lambda hr: hr.update(self.id, name, *args, update_id=update_id, **kwargs))

    async def cancel(self, reason: str = "") -> None:
        """Ask the run to cancel; durable on return."""
        await self._env.tell(lambda hr: hr.cancel(self.id, reason))

    async def terminate(self, reason: str = "") -> None:
        """End the run without its code."""
        await self._env.tell(lambda hr: hr.terminate(self.id, reason))

    async def resume(self) -> None:
        """Go on after a pause or a suspension."""
        await self._env.tell(lambda hr: hr.resume(self.id))

    async def history(self) -> list[ev.Event]:
        """The run's events so far."""
        return await self._env.history(self.id)
