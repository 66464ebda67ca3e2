"""Values of fields and their coercion: Django REST framework's fields, without the framework.

The module `contract` lists the fields of an automation; this module reads a single value. Every message has
the framework's wording (rest_framework.fields, rest_framework.relations, django.core.validators), because
clients show the messages.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Final, Literal

from scheduler.localapi.http.errors import make_validation_error
from scheduler.localapi.store import Value


class AbsentValue(Enum):
    """A field without a value in the data, in contrast to null."""

    ABSENT = "absent"


ABSENT: Final = AbsentValue.ABSENT


class Form(dict[str, str]):
    """The fields of an HTML form. A form cannot express null or absence: a blank may mean either."""


_TRUE: Final = frozenset({"t", "y", "yes", "true", "on", "1", 1})
_FALSE: Final = frozenset({"f", "n", "no", "false", "off", "0", 0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Field(ABC):
    """A writable field. ``default`` is for a new object; without a default the field is required."""

    name: str
    default: Value | Literal[AbsentValue.ABSENT] = ABSENT
    nullable: bool = False
    blank: bool = False
    type_name: ClassVar[str]
    """The framework's name of the type, in the answer to OPTIONS."""
    is_box: ClassVar = False
    """Whether a form shows the field as a box: a form says nothing about a box that is not ticked."""

    @property
    def is_required(self) -> bool:
        """Whether a new object must have the field."""
        return self.default is ABSENT

    def get_value(self, data: Mapping[str, object]) -> object:
        """Return the value of this field in ``data``, `ABSENT` without a value."""
        value = data.get(self.name, ABSENT)
        return self._read_form_value(value) if isinstance(data, Form) else value

    def _read_form_value(self, value: object) -> object:
        if value != "" or self.blank:
            return value
        if self.nullable:
            return None
        return value if self.is_required else ABSENT

    def read_new(self, data: Mapping[str, object]) -> Value:
        """Return the converted value in ``data``, or the default, for a new object. Raises `ApiError`."""
        value = self.get_value(data)
        if value is not ABSENT:
            return self.read(value)
        if self.is_box and isinstance(data, Form) and self.name not in data:
            return False
        if self.default is ABSENT:
            raise self._make_error("required", "This field is required.")
        return self.default

    def read(self, value: object) -> Value:
        """Convert ``value``. Raises `ApiError` naming this field."""
        if value is not None:
            return self._coerce(value)
        if not self.nullable:
            raise self._make_error("null", "This field may not be null.")
        return None

    def _make_error(self, code: str, detail: str) -> Exception:
        return make_validation_error(code, detail, attr=self.name)

    @abstractmethod
    def _coerce(self, value: object) -> Value: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Field):
    """A string, trimmed. Numbers become text; truth values do not.

    ``check`` judges a valid text last, and raises ValueError.
    """

    type_name: ClassVar = "string"
    max_length: int | None = None
    check: Callable[[str], str] = field(default=str, repr=False)

    def read(self, value: object) -> Value:
        """Convert ``value``. A blank is judged before the type, as in the framework."""
        if str(value).strip():
            return Field.read(self, value)  # super() does not find its class in a slotted dataclass
        if not self.blank:
            raise self._make_error("blank", "This field may not be blank.")
        return ""

    def _coerce(self, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._make_error("invalid_input", "Not a valid string.")
        text = str(value).strip()
        self._check_text(text)
        try:
            return self.check(text)
        except ValueError as error:
            raise self._make_error("invalid_input", str(error)) from None

    def _check_text(self, text: str) -> None:
        if self.max_length is not None and len(text) > self.max_length:
            raise self._make_error(
                "max_length", f"Ensure this field has no more than {self.max_length} characters."
            )
        if "\0" in text:
            raise self._make_error("null_characters_not_allowed", "Null characters are not allowed.")
        try:
            text.encode()
        except UnicodeEncodeError as error:  # UTF-8 encodes everything but surrogates
            lone = ord(text[error.start])
            raise self._make_error(
                "surrogate_characters_not_allowed", f"Surrogate characters are not allowed: U+{lone:X}."
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag(Field):
    """A boolean in any of the usual spellings."""

    type_name: ClassVar = "boolean"
    is_box: ClassVar = True

    def _coerce(self, value: object) -> bool:
        spelling = value.lower() if isinstance(value, str) else value
        if isinstance(spelling, str | int | float):
            if spelling in _TRUE:
                return True
            if spelling in _FALSE:
                return False
        raise self._make_error("invalid_input", "Must be a valid boolean.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(Field):
    """The integer id of an object that exists elsewhere: one of ``known``."""

    type_name: ClassVar = "field"
    known: Collection[int]

    def read(self, value: object) -> Value:
        """Convert ``value``. A blank is null, also in JSON."""
        return Field.read(self, None if value == "" else value)

    def _coerce(self, value: object) -> int:
        number = _to_integer(value)
        if number is None:
            raise self._make_error(
                "incorrect_type", f"Incorrect type. Expected pk value, received {type(value).__name__}."
            )
        if number not in self.known:
            raise self._make_error("does_not_exist", f'Invalid pk "{value}" - object does not exist.')
        return number


def _to_integer(value: object) -> int | None:
    """Return ``int(value)``, as in the framework: "07" and 7.9 are 7. None for booleans and other values."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None
