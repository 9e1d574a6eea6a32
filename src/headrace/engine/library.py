"""The workflow versions this node knows: stored definitions, made ready to run and bound to code."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from headrace.contracts.store import Store, WorkflowRow
from headrace.core.brains import graph_plan
from headrace.core.errors import NotFound
from headrace.core.ids import WorkflowVersion
from headrace.core.plan import Plan
from headrace.core.spec import AnySpec, decode_any_spec, encode_spec, encode_stored, version_of
from headrace.engine.live import Binding

PlanMaker = Callable[[Any, str], Any]
"""Makes a definition of a version ready to run: a graph's :class:`Plan` or a code workflow's."""

Binder = Callable[[Any, str | None], Binding]
"""Binds every task of a plan for a source folder. Raises ``InvalidDefinition`` and ``UserCodeError``."""


def _no_functions(_functions: Mapping[str, Any]) -> None:
    pass


VERSIONS_MAX = 64
"""Versions and bindings kept in memory, least recently used go first. Live runs hold on to their own."""


class Library:
    """One node's versions."""

    def __init__(self, store: Store, bind: Binder, make_plan: PlanMaker = graph_plan) -> None:
        self._make_plan = make_plan
        self.give_functions: Callable[[Mapping[str, Any]], None] = _no_functions
        """Takes functions that cannot be imported by name; set by the assembly."""
        self._store = store
        self._bind = bind
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._bindings: OrderedDict[tuple[str, str | None], Binding] = OrderedDict()
        self._last_put: dict[str, str] = {}
        self._latest: tuple[AnySpec, WorkflowVersion] | None = None

    async def register(self, spec: AnySpec, *, source: str = "", now: float) -> WorkflowVersion:
        """Store a definition (once) and make it ready. ``spec`` has been validated. Durable on return."""
        latest = self._latest
        if latest is not None and latest[0] is spec and self._last_put.get(spec.name) == latest[1]:
            return latest[1]  # the same object again: no need to hash it again
        version = WorkflowVersion(version_of(encode_spec(spec)))
        if self._last_put.get(spec.name) != version:
            await self._store.put_workflow(WorkflowRow(version, spec.name, encode_stored(spec), source, now))
            self._last_put[spec.name] = version
        if version not in self._plans:
            self._keep(self._make_plan(spec, version))
        self._latest = (spec, version)
        return version

    async def fetch(self, version: str) -> Plan:
        """A version from memory or the store. Raises :class:`NotFound`."""
        if version not in self._plans:
            row = await self._store.workflow(WorkflowVersion(version))
            if row is None:
                raise NotFound(f"workflow version {version} is not in the store")
            self._keep(self._make_plan(decode_any_spec(row.data), version))
        return self.plan(version)

    def plan(self, version: str) -> Plan:
        """A version that was registered or fetched."""
        self._plans.move_to_end(version)
        return self._plans[version]

    def binding(self, version: str, source_dir: str | None) -> Binding:
        """The version's tasks bound for a source folder. Raises what binding raises; failures are not remembered, so
        that mended code is picked up."""
        key = (version, source_dir)
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings[key] = self._bind(self.plan(version), source_dir)
            while len(self._bindings) > VERSIONS_MAX:
                self._bindings.popitem(last=False)
        self._bindings.move_to_end(key)
        return binding

    def forget_bindings(self) -> None:
        """Bind every version anew when it is next needed: code or surroundings have changed. Live runs hold on to what
        they have."""
        self._bindings.clear()

    def try_binding(self, spec: AnySpec, source_dir: str | None) -> None:
        """Bind a definition and forget it: raises what :meth:`binding` would. Nothing is stored."""
        self._bind(self._make_plan(spec, "unsaved"), source_dir)

    def unsaved(self, spec: AnySpec) -> Plan:
        """A definition made ready without being stored."""
        return self._make_plan(spec, "unsaved")

    def bind(self, plan: Plan, source_dir: str | None) -> Binding:
        """Bind a plan and forget it. Raises like :meth:`binding`."""
        return self._bind(plan, source_dir)

    def _keep(self, plan: Plan) -> None:
        self._plans[plan.version] = plan
        while len(self._plans) > VERSIONS_MAX:
            self._plans.popitem(last=False)
