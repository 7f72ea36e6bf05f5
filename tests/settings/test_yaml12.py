"""Settings mean to `read_yaml` what they mean to DVC, which reads with ruamel.yaml."""

import json
import warnings
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from yaml import YAMLError

from ncn.common.errors import InputError
from ncn.settings import read_yaml
from ncn.settings.yaml12 import parse_yaml
from tests.conftest import ROOT

# Each list has the one before it ten times: nine lines that stand for a thousand million lists.
BOMB = b"a0: &a0 [1]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 10)
)


REFUSED = "refused"

# What looks like a number, a truth value, nothing or a date, in YAML 1.1, 1.2 or neither.
SPELLINGS = """
1e-5 1e5 1E+5 1.e3 1.0e-3 .5 .5e3 .5e+3 -.5 +1 --1 - + . .. 1. 1e e1 1.5.2 0.1_0 1_000 -_ _1
0o17 0O17 0o8 017 089 0x1F 0xfg 0x 0b11 0b12 1:30 1:30:00.5 190:20:30 .inf -.INF +.Inf .NaN
-.nan inf nan true True tRUE TRUE false False yes Yes no NO on Off y n null Null nULL NULL ~
~~ = << <<< 2026-01-01 2026-1-1 2026-13-01 2026-02-30 2026-01-01T10:00:00Z
2026-1-1t1:00:00.1234567+01:30 2026-01-01T23:59:59.9999999 9999-12-31T23:59:59.9999999
""".split()  # noqa: SIM905  as a list it would be a line each
SPELLINGS += ["", "2026-01-01 10:00:00", "2026-01-01 10:00:00.5 -5", "2026-01-01 25:00:00", "1 2"]
PLACES = (
    "{}", "a: {}", "- {}", "a:\n  - {}\n  - {}\n", "{}: 1", "? {}\n: 1", "a: {}  # words",
    "[{}]", "[0, {}]", "{{a: {}}}", "{{{}: 1}}", "a: [{}, {{b: {}}}]", "a: '{}'", 'a: "{}"',
    "'{}': 1", "a: |\n  {}\n", "a: !!str {}", "a: !!float {}", "a: !!int {}", "a: &b {}",
)  # fmt: skip


def typed(value: Any) -> Any:
    """What can be compared by value and type: 1, 1.0 and True differ, two NaN do not."""
    if isinstance(value, dict):
        return dict, [(typed(key), typed(each)) for key, each in value.items()]
    if isinstance(value, list):
        return list, [typed(each) for each in value]
    if isinstance(value, datetime):
        return datetime, value.isoformat()  # a time zone's name says nothing more
    return type(value), repr(value)


def ours(text: str) -> Any:
    try:
        return typed(parse_yaml(text))
    except YAMLError:
        return REFUSED


def dvcs(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ruamel's, of an anchor given twice
        try:
            return typed(YAML(typ="safe").load(text))
        except Exception:  # it lets errors of int, float and date through
            return REFUSED


def in_place(place: str, scalar: str) -> str:
    return place.format(*[scalar] * place.count("{}"))


def may_be_refused(place: str, scalar: str) -> bool:
    """What only libyaml, or only ruamel's `int` and `float`, take for malformed."""
    if place.startswith(("? ", "a: !!")):  # `? -` makes the key a list; ruamel reads --1 as 1
        return True
    in_braces = "{{" in place or "[" in place  # `[a:]`, `{: 1}`
    no_key = not scalar and (in_braces or place.startswith("{}:"))
    return no_key or scalar[:1] == ":" or (in_braces and ":" in scalar)


@pytest.mark.parametrize("place", PLACES)
def test_whatever_looks_like_a_value_is_what_dvc_takes_it_for(place: str) -> None:
    for scalar in SPELLINGS:
        text = in_place(place, scalar)
        mine = ours(text)
        assert mine == dvcs(text) or (mine == REFUSED and may_be_refused(place, scalar)), text


@st.composite
def near_misses(draw: st.DrawFn) -> str:
    """A spelling with one character more, less or other; or a few of those that numbers have."""
    if draw(st.booleans()):
        return draw(st.text("01789+-._eExXobTZ:~ naflsrtuyNIFO", max_size=8)).strip()
    text = draw(st.sampled_from(SPELLINGS))
    place = draw(st.integers(0, len(text)))
    other = draw(st.sampled_from([*"019+-._eExob:TZ ~n", ""]))
    return (text[:place] + other + text[place + draw(st.integers(0, 1)) :]).strip()


@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(near_misses(), st.sampled_from(PLACES))
def test_near_misses_are_what_dvc_takes_them_for(scalar: str, place: str) -> None:
    text = in_place(place, scalar)
    mine = ours(text)
    assert mine == dvcs(text) or (mine == REFUSED and may_be_refused(place, scalar))


# A lone `!`, anchors, tabs, comments behind | and >, and line breaks of YAML 1.1: the module says.
SAME_IN_BOTH = st.characters(exclude_characters="!&\t\r|>?\x85\u2028\u2029\ufeff", codec="utf-8")


@settings(max_examples=800)
@given(st.text(SAME_IN_BOTH, max_size=10), st.sampled_from(PLACES[:12]))
@example("#", PLACES[0])
def test_any_text_means_what_it_means_to_dvc_or_is_refused(scalar: str, place: str) -> None:
    text = in_place(place, scalar)
    assert ours(text) in (dvcs(text), REFUSED)


@settings(max_examples=300)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
))  # fmt: skip
def test_what_json_writes_means_what_it_means_to_dvc(content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False)
    if all(map(str.isprintable, text)):
        assert ours(text) == dvcs(text)


FILES = (
    "params.yaml", "dvc.yaml", "dvc.lock", *map(str, sorted(Path(ROOT, "profiles").glob("*.yaml"))),
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_projects_files_mean_what_they_mean_to_dvc(name: str) -> None:
    path = ROOT / name
    if path.exists():  # dvc.lock: after a first run
        text = path.read_text(encoding="utf-8")
        assert typed(read_yaml(path)) == dvcs(text) != REFUSED


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x",  # merged, overridden
        "a: &x {b: 1}\nc: &y {b: 2, d: 3}\ne: {<<: [*x, *y], f: 4}",
        "a: {b: &x {<<: &y {k: 1, l: 2}, k: 3}}\nd: {<<: *x, l: 4}",  # a merge of a merge
        "<<: {a: 1}\na: 2",
        "<<: 1", "<<: {a: 1}\n<<: {b: 1}",
        "a: 1\na: 2", "{a: 1, 'a': 2}", "1: a\n0x1: b", "true: a\nTrue: b", "1: a\n1.0: b",
        "1: a\n2.5: b\nnull: c\ntrue: d\n2026-01-01: e", "? {a: 1}\n: b", "=: 1", "a: =",
        "a: *nothing", "&a [*a", "a: 1\n---\nb: 2", "--- a\n...\n", "", "# words\n", "---\n",
        "%YAML 1.2\n---\na: yes\n", "%TAG ! tag:example.org,2000:\n---\na: !b 1",
        "a: !!python/object/apply:os.system [ls]", "a: !!python/name:os.system", "a: !mine b",
        "a: !!set {b, c}", "a: !!binary aGk=", "a: !!binary é", "a: !!int ten",
        "a: !!timestamp now",
        "a: !!float ''", "a: !!bool maybe", "a: !!null x", "a: !!str 1e-5", "a: ! 3",
        "a:\n\t- b", "a: b: c", "a: [", "a: 'b", "\ufeffa: 1", "a: \x07", "a: 'é日😀'",
        "a: >-\n  b\n  c\n\n  d\n", "a: |+\n  b\n\n", "a: |2\n   b\n", 'a: "\\x41\\u00e9\\/"',
    ],
)  # fmt: skip
def test_structure_means_what_it_means_to_dvc(text: str) -> None:
    assert ours(text) == dvcs(text)


@pytest.mark.parametrize(
    "text",
    ["%YAML 1.1\n---\na: yes\n", "a: &x 1\nb: &x 2", "<<: {a: 1}\nb: 1\nb: 2", "? [a]\n: b",
     "a: !!omap [b: 1]", "a: [:b]"],
)  # fmt: skip
def test_what_dvc_reads_and_settings_need_not_hold_is_refused(text: str) -> None:
    assert ours(text) == REFUSED != dvcs(text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: [2\n", "is not YAML: line 3, column 1: while parsing a flow sequence did not"),
        (b"a: 1\nb: 2\na: 3\n", "line 3, column 1: found the key 'a' twice"),
        (b"a: {b: 1,\n  b: 2}", "line 2, column 3: found the key 'b' twice"),
        (b"a: 2026-02-30\n", "line 1, column 4: '2026-02-30' is no usable timestamp"),
        (b"a: 0x" + b"f" * 5000, "line 1, column 4: '0xfff"),
        (b"? 0x" + b"f" * 5000 + b"\n: 1\n", "line 1, column 3: '0xfff"),
        (b"a: " + b"9" * 5000, "line 1, column 4: '9999"),
        (b"? " + b"x" * 5000 + b"\n? " + b"x" * 5000, "line 2, column 3: found the key 'xxx"),
        (b"a: 1\n---\nb: 2\n", "line 2, column 1: expected a single document"),
        (b"a: !!python/name:os.system\n", "line 1, column 4: could not determine a constructor"),
        (b"%YAML 1.1\n---\na: yes\n", "its %YAML directive asks for another version than 1.2"),
        (b"a: caf\xe9\n", "can't decode byte 0xe9"),
        (b"a: \x00\n", "is not YAML: "),
        (b"a: &x {b: *x}\n", "is not YAML: an alias stands in what it stands for"),
        (b"a: &x [1, [*x]]\n", "is not YAML: an alias stands in what it stands for"),
        (BOMB, "is not YAML: it has more than 1,000,000 mappings and lists, aliases written out"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "is not YAML: it is nested too deep"),
        (b"[" * 100_000, "is not YAML: it is nested too deep"),
        (b"{a: " * 50_000, "is not YAML: it is nested too deep"),
        (b"- " * 50_000, "is not YAML: it is nested too deep"),
        (
            b"a0: &a0 {}\n"
            + b"".join(b"a%d: &a%d [*a%d]\n" % (n + 1, n + 1, n) for n in range(5000)),
            "is not YAML: it is nested too deep",
        ),
        (b"- a\n", "expected sections (a mapping), found list"),
        (b"", "expected sections (a mapping), found NoneType"),
    ],
)
def test_what_is_wrong_and_where_is_said_in_one_line(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "some.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_yaml(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 250


def test_dates_are_rounded_to_a_microsecond() -> None:
    read = parse_yaml("[2026-01-01, 2026-01-01T00:00:00.9999995, 2026-01-01T00:00:00.1234564]")
    second = datetime(2026, 1, 1, 0, 0, 1)
    assert read == [date(2026, 1, 1), second, datetime(2026, 1, 1, 0, 0, 0, 123456)]


def test_an_alias_is_a_copy_of_its_own() -> None:
    read = parse_yaml("a: &x {b: [1]}\nc: *x\nd: {<<: *x}")
    read["a"]["b"].append(2)
    assert read == {"a": {"b": [1, 2]}, "c": {"b": [1]}, "d": {"b": [1]}}
