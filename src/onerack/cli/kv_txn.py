"""`onerack kv txn`: several operations as one, written as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from onerack.cli import kv_options as options
from onerack.cli.failures import FAILED
from onerack.errors import UsageError

if TYPE_CHECKING:
    from onerack.kv.client import Compare, Delete, Done, Get, KvClient, Put, Txn

EXAMPLES = """\b
Examples:
  onerack kv txn '{"if": [{"key": "a", "version": 0}], "then": [{"put": {"key": "a", "value": "1"}}]}'
  onerack kv txn '{"if": [{"key": "n", "value": "1"}], "then": [{"delete": {"key": "n"}}]}'
  onerack kv txn - < move.json
"""

_RELATIONS: Final = {"=": "=", "==": "=", "!=": "!=", "<": "<", ">": ">"}
_TARGETS: Final = ("version", "create", "mod", "value", "lease")


async def txn(
    store: KvClient,
    operations: Annotated[
        str, typer.Argument(metavar="JSON", help="Comparisons and operations; - reads them from standard input.")
    ],
    encoding: options.Encoding = "text",
    as_json: options.AsJson = False,
) -> int | None:
    """Compare, then do one of two lists of operations, all as one revision.

    {"if": [...], "then": [...], "else": [...]}. A comparison: {"key": K, "version" | "create" | "mod" | "value" |
    "lease": X}, with "is": "!=", "<" or ">" if it is not "=". An operation: {"put": {"key", "value", "lease"}},
    {"get": {"key", "to", "prefix", "limit"}}, {"delete": {"key", "to", "prefix"}} or {"txn": {...}}. The exit code is
    1 if the comparisons do not hold.
    """
    text = sys.stdin.read() if operations == "-" else operations
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the operations are not JSON: {error}") from None
    wanted = _Reader(encoding).txn(given)
    done = await store.txn(wanted.compare, wanted.success, wanted.failure)
    described = _described(done, encoding)
    if as_json:
        print(json.dumps(described))
    else:
        print(f"{'then' if done.succeeded else 'else'} at revision {done.revision}")
        for result in described["results"]:
            print(json.dumps(result))
    return None if done.succeeded else FAILED


class _Reader:
    """From JSON to a transaction. Raises: UsageError: names the part that is wrong."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def txn(self, given: Any) -> Txn:
        from onerack.kv.client import Txn

        words = _object(given, "a transaction", ("if", "then", "else"))
        lists = {name: words.get(name, []) for name in ("if", "then", "else")}
        for name, value in lists.items():
            if not isinstance(value, list):
                raise UsageError(f'"{name}" is a list, not {json.dumps(value):.80}')
        return Txn(
            [self._compare(each) for each in lists["if"]],
            [self._operation(each) for each in lists["then"]],
            [self._operation(each) for each in lists["else"]],
        )

    def _compare(self, given: Any) -> Compare:
        from onerack.kv.client import Compare

        words = _object(given, "a comparison", ("key", "is", "to", "prefix", *_TARGETS))
        targets = [name for name in _TARGETS if name in words]
        if len(targets) != 1:
            raise UsageError(f"a comparison is of one of {', '.join(_TARGETS)}: {json.dumps(given):.120}")
        relation = _RELATIONS.get(words.get("is", "="))
        if relation is None:
            raise UsageError(f'"is": {json.dumps(words["is"])} is none of = != < >')
        key, end = self._span(words)
        to: Any = words[targets[0]]
        if targets[0] == "value":
            to = self._bytes(words, "value")
        elif targets[0] == "lease" and isinstance(to, str):
            to = options.lease_number(to)
        elif type(to) is not int:
            raise UsageError(f'"{targets[0]}": {json.dumps(to):.80} is no number')
        return Compare(key, targets[0], relation, to, end)  # type: ignore[arg-type]  # both were looked up

    def _operation(self, given: Any) -> Put | Get | Delete | Txn:
        from onerack.kv.client import Delete, Get, Put

        words = _object(given, "an operation", ("put", "get", "delete", "txn"))
        if len(words) != 1:
            raise UsageError(f"an operation is one of put, get, delete, txn: {json.dumps(given):.120}")
        ((name, content),) = words.items()
        if name == "txn":
            return self.txn(content)
        if name == "put":
            fields = _object(content, "a put", ("key", "value", "lease"))
            lease = options.lease_number(str(fields.get("lease", "0")))
            return Put(self._bytes(fields, "key"), self._bytes(fields, "value", ""), lease)
        if name == "get":
            fields = _object(content, "a get", ("key", "to", "prefix", "limit"))
            limit = fields.get("limit", 0)
            if type(limit) is not int:
                raise UsageError(f'"limit": {json.dumps(limit):.80} is no number')
            return Get(*self._span(fields), limit=limit)
        return Delete(*self._span(_object(content, "a delete", ("key", "to", "prefix"))))

    def _span(self, fields: dict[str, Any]) -> tuple[bytes, bytes]:
        from onerack.kv.client.ranges import span

        prefix = bool(fields.get("prefix", False))
        return span(self._bytes(fields, "key"), self._bytes(fields, "to", ""), prefix=prefix)

    def _bytes(self, fields: dict[str, Any], name: str, default: str | None = None) -> bytes:
        text = fields.get(name, default)
        if not isinstance(text, str):
            raise UsageError(f'"{name}" is missing or no text in {json.dumps(fields):.120}')
        return options.to_bytes(text, self._encoding, f'"{name}"')


def _object(given: Any, what: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise UsageError(f"{what} is a JSON object, not {json.dumps(given):.80}")
    strange = [name for name in given if name not in known]
    if strange:
        raise UsageError(f'{what} has no "{strange[0]}"; it has {", ".join(known)}')
    return given


def _described(done: Done, encoding: str) -> dict[str, Any]:
    from onerack.kv.client import Deleted, Found, Written

    results: list[dict[str, Any]] = []
    for result in done.results:
        match result:
            case Written():
                results.append({"put": {}})
            case Found():
                kvs = [options.described_kv(kv, encoding) for kv in result.kvs]
                results.append({"get": {"count": result.count, "more": result.more, "kvs": kvs}})
            case Deleted():
                results.append({"delete": {"deleted": result.deleted}})
            case _:
                results.append({"txn": _described(result, encoding)})
    return {"revision": done.revision, "succeeded": done.succeeded, "results": results}
