"""Files changed as accidents and attackers change them, the same for the same seed."""

import json
import random
from collections.abc import Iterator
from typing import Any

import yaml

# Values where another is expected. As text, where JSON and YAML would write another.
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 1.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"),
    2**31, 2**63, -(2**63), 2**64, 10**30, "", " ", "a", "1", "1e5", "nan", "é", "\0", "\ud800",
    "\u2028", "../..", "/", "x" * 300, [], [None], [[]], [1, 1], {}, {"": None}, {"a": {}},
)  # fmt: skip
ODD_TEXT = (
    b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n\n", b"\t", b'"', b"'", b"{", b"}", b"[", b"]",
    b":", b"- ", b"&a ", b"*a", b"<<: ", b"!!int ''", b"!!python/object:os.system ", b"%YAML 1.1\n",
    b"2026-13-45", b"1:30", b"0o17", b"1_0", b"9" * 5000, b"[" * 100_000, b"nan", b"-1", b"1e400",
    b"<|endoftext|>", b" " * 2000, b"\xe2\x80", b"\xed\xa0\x80", b"\\ud800", b"--- ", b"| ", b"#",
)  # fmt: skip


def mutated(name: str, content: bytes, draw: random.Random) -> bytes:
    """The content of a file of that name, changed in one to three places."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        structured = draw.random() < 0.6
        if name.endswith(".json") and structured:
            content = _in_tree(content, json.loads, json.dumps, draw)
        elif name.endswith((".yaml", ".lock")) and structured:
            content = _in_tree(content, yaml.safe_load, json.dumps, draw)
        elif name.endswith(".tsv") and structured:
            content = _in_table(content, draw)
        else:
            content = _in_bytes(content, draw)
    return content


def _in_tree(content: bytes, read: Any, write: Any, draw: random.Random) -> bytes:
    """With one value replaced, removed, wrapped or moved."""
    try:
        tree = read(content)
        places = list(_places(tree))
    except (ValueError, RecursionError, yaml.YAMLError):
        return _in_bytes(content, draw)
    if not places:
        return _in_bytes(content, draw)
    within, key = draw.choice(places)
    match draw.randrange(6):
        case 0:
            del within[key]
        case 1:
            within[key] = [within[key]]
        case 2:
            other, at = draw.choice(places)
            within[key] = json.loads(json.dumps(other[at], default=str))
        case 3 if isinstance(within, dict):
            within[draw.choice(("", "a", "é", "x" * 300))] = within.pop(key)
        case _:
            within[key] = draw.choice(ODD)
    try:
        return write(tree, default=str).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError):  # a key that JSON has not
        return content


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value in a mapping or list, as container and key."""
    keys: Any = (
        tree if isinstance(tree, dict) else range(len(tree) if isinstance(tree, list) else 0)
    )
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _in_table(content: bytes, draw: random.Random) -> bytes:
    """With one cell, line or column changed."""
    rows = [line.split(b"\t") for line in content.split(b"\n")]
    row = draw.randrange(len(rows))
    cell = draw.randrange(len(rows[row]))
    match draw.randrange(6):
        case 0:
            del rows[row]
        case 1:
            del rows[row][cell]
        case 2:
            rows.insert(row, list(rows[draw.randrange(len(rows))]))
        case 3:
            for each in rows:
                del each[cell : cell + 1]
        case 4:
            rows[row][cell] = draw.choice(ODD_TEXT)
        case _:
            rows[row][cell] = str(draw.choice(ODD)).encode("utf-8", "replace")
    return b"\n".join(b"\t".join(row) for row in rows)


def _in_bytes(content: bytes, draw: random.Random) -> bytes:
    """With one run of bytes changed, removed, doubled or put in."""
    start = draw.randrange(len(content) + 1)
    end = min(len(content), start + draw.choice((1, 1, 2, 4, 8, 64, 1000)))
    piece = content[start:end]
    match draw.randrange(7):
        case 0:
            return content[:start]
        case 1:
            return content[:start] + content[end:]
        case 2:
            return content[:end] + piece * draw.choice((1, 2, 50)) + content[end:]
        case 3:
            return content[:start] + draw.randbytes(len(piece)) + content[end:]
        case 4 if piece:
            changed = bytearray(piece)
            changed[0] ^= 1 << draw.randrange(8)
            return content[:start] + bytes(changed) + content[end:]
        case 5:
            number = draw.choice((0, 1, 255, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
            return content[:start] + number.to_bytes(8, "little") + content[start + 8 :]
        case _:
            return content[:start] + draw.choice(ODD_TEXT) + content[end:]
