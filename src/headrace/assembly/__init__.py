"""Puts an engine together: the only package that knows everybody."""

from headrace.assembly.binder import make_plan
from headrace.assembly.defaults import slots_of
from headrace.assembly.engine import Headrace
from headrace.config.settings import STORE_DEFAULT

__all__ = ["STORE_DEFAULT", "Headrace", "make_plan", "slots_of"]
