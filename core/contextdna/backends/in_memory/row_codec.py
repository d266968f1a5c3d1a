"""Rows as JSON values and back: exactly the types that the sheets name, and nothing else.

A codec is made from the annotations of a sheet, so a row is rebuilt by its own class and no class is ever named by what
lies on the disk. A dataclass is a list of its fields in their order; fields that were added at its end, with defaults,
may be missing in what an older version wrote.
"""

import types
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from operator import attrgetter
from typing import Any, Final, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Codec:
    """How values of one type are written and read. None as a function: as they are."""

    encode: Convert | None
    decode: Convert


def codec_of(kind: Any) -> Codec:
    """Make the codec of a type.

    Raises:
        TypeError: It has none.
    """
    if isinstance(kind, NewType):
        return codec_of(kind.__supertype__)
    if kind in _LEAVES:
        return _LEAVES[kind]
    if get_origin(kind) in (types.UnionType, Union):
        return _optional(kind)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind))
    if get_origin(kind) is frozenset:
        return _frozenset(get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return Codec(lambda value: value.value, kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind)
    raise TypeError(f"no rows hold values of {kind}")


def _checked(*kinds: type) -> Convert:
    def decode(value: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError(f"a {type(value).__name__} stands where {kinds[0].__name__} must")
        return value

    return decode


_LEAVES: Final[dict[Any, Codec]] = {
    str: Codec(None, _checked(str)),
    int: Codec(None, _checked(int)),
    float: Codec(None, _checked(float, int)),
    bool: Codec(None, _checked(bool)),
    type(None): Codec(None, _checked(type(None))),
    bytes: Codec(
        lambda value: b2a_base64(value, newline=False).decode("ascii"),
        lambda value: a2b_base64(value, strict_mode=True),
    ),
    datetime: Codec(datetime.isoformat, datetime.fromisoformat),
}


def _optional(kind: Any) -> Codec:
    (inner,) = (codec_of(part) for part in get_args(kind) if part is not type(None))
    encode, decode = inner.encode, inner.decode
    return Codec(
        encode and (lambda value: None if value is None else encode(value)),
        lambda value: None if value is None else decode(value),
    )


def _words(words: tuple[str, ...]) -> str | list[str]:
    """Write texts as one where no space is in them: a record has a hundred tokens, and one text is written faster."""
    joined = " ".join(words)
    return joined if words and joined.count(" ") == len(words) - 1 else list(words)


def _texts(written: str | list[str]) -> tuple[str, ...]:
    return tuple(written.split(" ")) if isinstance(written, str) else tuple(map(_LEAVES[str].decode, written))


def _tuple(parts: tuple[Any, ...]) -> Codec:
    if parts == (str, Ellipsis):
        return Codec(_words, _texts)
    if len(parts) == 2 and parts[1] is Ellipsis:
        item = codec_of(parts[0])
        return Codec(_each(item.encode, list), lambda values: tuple(map(item.decode, values)))
    codecs = [codec_of(part) for part in parts]
    decoders = [codec.decode for codec in codecs]
    return Codec(
        _fixed([codec.encode for codec in codecs]),
        lambda values: tuple(decode(value) for decode, value in zip(decoders, values, strict=True)),
    )


def _frozenset(item_kind: Any) -> Codec:
    item = codec_of(item_kind)
    return Codec(_each(item.encode, sorted), lambda values: frozenset(map(item.decode, values)))


def _each(encode: Convert | None, gather: Callable[[Any], list[Any]]) -> Convert:
    return gather if encode is None else lambda values: gather(map(encode, values))


def _fixed(encoders: list[Convert | None]) -> Convert:
    if not any(encoders):
        return list
    return lambda values: [
        value if encode is None else encode(value) for encode, value in zip(encoders, values, strict=True)
    ]


T = TypeVar("T")


def _dataclass(kind: type[T]) -> Codec:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # it was looked at: it is one
    codecs = [codec_of(hints[name]) for name in names]
    all_of = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)
    encoders = [(place, codec.encode) for place, codec in enumerate(codecs) if codec.encode is not None]
    decoders = [codec.decode for codec in codecs]

    def encode(value: T) -> list[Any]:
        written = list(all_of(value))
        for place, convert in encoders:
            written[place] = convert(written[place])
        return written

    def decode(values: list[Any]) -> T:
        if len(values) > len(decoders):
            raise TypeError(f"a {kind.__name__} has {len(values)} fields: a newer version wrote it")
        return kind(*(convert(value) for convert, value in zip(decoders, values, strict=False)))

    return Codec(encode, decode)
