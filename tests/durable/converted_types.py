"""Types of many families, tasks that take and give them, and a converter of the program's own."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import attrs
import msgspec
import numpy
import pydantic

from headrace import task


class Color(enum.Enum):
    RED = "red"


@dataclass
class Line:
    sku: str
    count: int


@attrs.define
class Parcel:
    weight: float
    lines: list[Line]


class Money(msgspec.Struct):
    cents: int


class Order(pydantic.BaseModel):
    id: int
    placed: date
    lines: list[str] = []

    @pydantic.field_validator("id")
    @classmethod
    def positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError("an order's id is positive")
        return value


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    name: str


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    name: str

    @pydantic.computed_field
    @property
    def greeting(self) -> str:
        return f"{self.name}!"

    model_config = pydantic.ConfigDict(extra="forbid")


class Fractions:
    """A converter of the program's own."""

    def takes(self, kind: type) -> bool:
        return issubclass(kind, Fraction)

    def to_plain(self, value: Any) -> Any:
        return [value.numerator, value.denominator]

    def from_plain(self, kind: Any, value: Any) -> Any:
        return kind(*value)

    def __eq__(self, other: object) -> bool:
        return type(other) is Fractions

    def __hash__(self) -> int:
        return 1


@task
def of_color(value: Color) -> Color:
    assert isinstance(value, Color)
    return value


@task
def of_line(value: Line) -> Line:
    assert isinstance(value, Line)
    return value


@task
def of_parcel(value: Parcel) -> Parcel:
    assert isinstance(value, Parcel)
    assert isinstance(value.lines[0], Line)
    return value


@task
def of_money(value: Money) -> Money:
    assert isinstance(value, Money)
    return value


@task
def of_order(value: Order) -> Order:
    assert isinstance(value, Order)
    return value


@task
def of_orders(value: list[Order]) -> list[Order]:
    assert isinstance(value[0], Order)
    return value


@task
def of_array(value: numpy.ndarray) -> numpy.ndarray:
    assert isinstance(value, numpy.ndarray)
    return value * 1


@task
def of_scalar(value: numpy.float32) -> numpy.float32:
    assert isinstance(value, numpy.float32)
    return value


@task
def of_fraction(value: Fraction) -> Fraction:
    assert isinstance(value, Fraction)
    return value


@task
def of_path(value: Path) -> Path:
    assert isinstance(value, Path)
    return value


@task
def of_pet(value: Cat | Dog) -> Cat | Dog:
    assert isinstance(value, Cat | Dog)
    return value


@task
def of_anything(value: list[Line | Parcel | Money | None]) -> list[Line | Parcel | Money | None]:
    assert not any(isinstance(one, dict) for one in value)
    return value


@task
def of_numbers(value: dict[int, str]) -> dict[int, str]:
    assert all(isinstance(key, int) for key in value)
    return value


@task
def of_days(value: dict[date, date | datetime]) -> dict[date, date | datetime]:
    assert not any(isinstance(one, str) for one in (*value, *value.values()))
    return value


@task
def of_texts(value: Path | str) -> Path | str:
    return value


def samples() -> list[tuple[Any, Any]]:
    """Tasks and what to give them."""
    return [
        (of_color, Color.RED),
        (of_line, Line("a", 2)),
        (of_parcel, Parcel(1.5, [Line("a", 2)])),
        (of_money, Money(995)),
        (of_order, Order(id=7, placed=date(2026, 2, 28), lines=["x"])),
        (of_orders, [Order(id=7, placed=date(2026, 2, 28))]),
        (of_array, numpy.arange(6, dtype=numpy.int16).reshape(2, 3)),
        (of_scalar, numpy.float32(1.5)),
        (of_fraction, Fraction(1, 3)),
        (of_path, Path("/a/b")),
        (of_pet, Cat(name="Tom")),
        (of_pet, Dog(name="Rex")),
        (of_anything, [Parcel(1.5, [Line("a", 2)]), None, Money(3), Line("b", 1)]),
        (of_numbers, {1: "a", -2: "b"}),
        (of_days, {date(2026, 2, 28): datetime(2026, 2, 28, 6), date(2026, 3, 1): date(2026, 3, 2)}),
        (of_texts, "2026"),
    ]
