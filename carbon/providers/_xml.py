"""XML of a provider as plain values, which a pydantic model then judges like JSON.

::

    name, body = plain(reply, many=frozenset({"Point"}))
    document = judged(reply, Document, body)

An element becomes a dictionary of its children, or its text if it has none; an empty one is left
out. So are namespaces and attributes: a new version of a schema changes the one, adds the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar
from xml.etree.ElementTree import Element, ParseError

from defusedxml.ElementTree import fromstring
from pydantic import BaseModel, ValidationError

from carbon._errors import BadResponse

if TYPE_CHECKING:
    from carbon.providers._web import Reply

_M = TypeVar("_M", bound=BaseModel)

_LARGEST: Final = 4 * 2**20
"""Bytes; a tree takes thirty times the memory of its text, and two seconds for this much."""
_DEEPEST: Final = 5


def plain(reply: Reply, many: frozenset[str]) -> tuple[str, Any]:
    """Return the name of the root element, and what it holds.

    Args:
        reply: The answer.
        many: Names that may stand more than once in an element; they become lists.

    Raises:
        BadResponse: It is no XML, or XML that may do harm.
    """
    if len(reply.content) > _LARGEST:
        raise BadResponse(reply.provider, f"sent more than {_LARGEST // 2**20} MiB")
    try:
        root: Element = fromstring(reply.content, forbid_dtd=True)
    except (ParseError, ValueError, LookupError):
        # ValueError: a document type, an entity or a broken text; LookupError: an unknown encoding.
        raise BadResponse(reply.provider, f"sent no XML (HTTP status {reply.status})") from None
    return _local(root), _value(root, many, 0)


def judged(reply: Reply, shape: type[_M], body: object) -> _M:
    """Return plain values as what they should be.

    Raises:
        BadResponse: They are something else.
    """
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in fault["loc"])
        what = f"{where}: {fault['type']}" if where else str(fault["type"])
        raise BadResponse(reply.provider, f"sent something unexpected ({what})") from None


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _value(element: Element, many: frozenset[str], depth: int) -> Any:  # noqa: ANN401 - any shape
    if not len(element) or depth == _DEEPEST:
        return (element.text or "").strip()
    found: dict[str, Any] = {}
    for child in element:
        name, value = _local(child), _value(child, many, depth + 1)
        if name in many:
            found.setdefault(name, []).append(value)
        elif value:
            # A name that may stand once but stands twice becomes a list, which no model accepts.
            found[name] = [found[name], value] if name in found else value
    return found
