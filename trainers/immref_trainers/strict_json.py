"""Records as JSON and back, strictly: what is unknown, missing or of another type is an error that names it."""

import dataclasses
import json
import typing
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar

from immref._checks import nearest_name

Record = TypeVar("Record")


def to_json(record: Any) -> str:
    """A record as the text of its file."""
    return json.dumps(dataclasses.asdict(record), indent=2) + "\n"


def read(kind: type[Record], text: str) -> Record:
    """A record from its text, strictly: an unknown or missing key, or a value of another type, is an error that names it."""
    record: Record = _decode(kind, json.loads(text), kind.__name__.lower())
    return record


def _decode(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`: a dataclass or one of several, a Literal, a homogeneous tuple, a plain type, or None where that is allowed."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (UnionType, typing.Union):  # Literal | None is the latter
        return _decode(_member(args, value, where), value, where)
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, value, where)
    if origin is Literal:
        if value not in args:
            raise ValueError(f"{where} must be one of {', '.join(map(repr, args))}, got {value!r}{nearest_name(value, args)}")
        return value
    if origin is tuple:
        return _decode_items(args[0], value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, got {value!r}")
        return {args[0](key): _decode(args[1], item, f"{where}[{key}]") for key, item in value.items()}
    if origin is list:
        return list(_decode_items(args[0], value, where))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} must be a {kind.__name__}, got {value!r}")
    return value


def _decode_items(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    """The items of a list."""
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, got {value!r}")
    return tuple(_decode(kind, item, f"{where}[{i}]") for i, item in enumerate(value))


def _decode_record(kind: Any, value: Any, where: str) -> Any:
    """A dataclass, every field present and none unknown."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {value!r}")
    types_by_name = typing.get_type_hints(kind)
    for key in value:
        if key not in types_by_name:
            raise ValueError(f"{where} has an unknown key {key!r}; known: {', '.join(types_by_name)}{nearest_name(key, types_by_name)}")
    if missing := [key for key in types_by_name if key not in value]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    return kind(**{key: _decode(types_by_name[key], value[key], f"{where}.{key}") for key in value})


def _member(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """Which of `kinds` a value is: None, the record whose first field can be the value's, or the one that is left."""
    if value is None and NoneType in kinds:
        return NoneType
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    if len(kinds) == 1:
        return kinds[0]
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {value!r}")
    tag = dataclasses.fields(kinds[0])[0].name
    records = {word: kind for kind in kinds for word in typing.get_args(typing.get_type_hints(kind)[tag])}
    name = value.get(tag)
    if name not in records:
        raise ValueError(f"{where}.{tag} must be one of {', '.join(map(repr, records))}, got {name!r}{nearest_name(name, records)}")
    return records[name]
