"""Strategies that derive configurations from the table of options."""

import math

import yaml
from hypothesis import strategies as st

from fs_plugins.config.host_options import HOST_OPTIONS
from fs_plugins.config.kinds import (
    MOST,
    Arguments,
    Choice,
    Flag,
    Items,
    Number,
    Text,
    Whole,
)
from fs_plugins.config.options import OPTIONS
from fs_plugins.config.scaling import Scaling

ROWS = {option.key: option for option in (*OPTIONS, *HOST_OPTIONS)}
# A configuration that is complete but for the files that it names.
BASE = {
    "federate": {"client_num": 3, "share_local_model": True},
    "data": {"type": "sst2@glue", "splitter": "lda"},
    "eval": {"metrics": ["acc"]},
    "model": {"type": "m@huggingface_llm"},
    "llm": {"adapter": {"use": True, "args": [{"r": 4}]}},
    "trainer": {"type": "fedsa_glue"},
}
NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20
).filter(lambda name: "/" not in name and not name.startswith((".", "~")))


def right(kind):
    """Values that a kind allows."""
    if isinstance(kind, Whole):
        least = -MOST if kind.least is None else kind.least
        most = MOST if kind.most is None else kind.most
        return st.integers(least, min(most, MOST)) | st.sampled_from(
            [least, most]
        )
    if isinstance(kind, Number):
        low = kind.least if kind.above is None else kind.above
        high = kind.most if kind.below is None else kind.below
        return st.floats(
            -1e6 if low is None else low,
            1e6 if high is None else high,
            exclude_min=kind.above is not None,
            exclude_max=kind.below is not None,
            allow_subnormal=False,
        )
    if isinstance(kind, Flag):
        return st.booleans()
    if isinstance(kind, Choice):
        return st.sampled_from(kind.known())
    if isinstance(kind, Text):
        return NAMES
    if isinstance(kind, Items):
        most = kind.at_most or 3
        return st.lists(right(kind.item), max_size=most)
    if isinstance(kind, Scaling):
        pairs = st.tuples(right(Number()), right(Number(above=0)))
        return st.booleans() | pairs.map(list)
    assert isinstance(kind, Arguments)
    return st.dictionaries(
        st.text("abcdef", min_size=3, max_size=5), st.integers(0, 9),
        max_size=2,
    )  # fmt: skip


ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1.5, 2**31, 2**32, 2**64, 10**400),
        *(math.nan, math.inf, -math.inf, 1e308, 5e-324, "", " ", "x"),
        *("1e-3", "True", "[1]", "{'a': 1}", "()", "1e999", "=cmd", "$x$"),
        *("a\nb", "\x1b[31m", "\u2028", "\u202e", "../..", "/", "~", "."),
        *("x" * 300, "y" * 5000, "a/" * 400, "<b>", "[red]", "%s", "{}"),
        *([], {}, [[]], [{}], {"a": None}, [None], [[1], {"b": []}]),
        *({1: 2}, {"": 1}, {"a.b": 1}, ["a"] * 200, [True], [1.0, "x"]),
    ]
)
# What is put into a file's text, or in the place of it.
PIECES = st.sampled_from(
    [
        *("\t", "\0", "\ud800", "\ufeff", "\x85", "\u2028", "\r", "\r\n"),
        *("&a ", "*a", "<<: *a\n", "!!int abc", "!!float abc", "!!binary x"),
        *("!!python/object:os.system x", "!!python/name:eval ''", "!x y"),
        *("2024-99-99", "2024-01-01", "9" * 5000, "-0", "0x" + "f" * 5000),
        *("[" * 3000, "{" * 3000, "- " * 3000, "? " * 3000, "{a: " * 3000),
        *("a: &a [*a]\n", "a: &a {b: *a}\n", "---\n", "...\n", "%YAML 9\n"),
        *("'", '"', "\\", ":", "#", "|", ">", "- ", "  ", "\n", "@", "`"),
        *("1:2:3:4", "1_0", "0o9", ".nan", "-.inf", "1e3", "yes", "~", "="),
        "a0: &a0 {x: 1}\n"
        + "".join(
            f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n"
            for n in range(1, 25)
        ),
        "a0: &a0 [1]\n"
        + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(30)),
    ]
)
ENCODINGS = ("utf-8",) * 6 + ("utf-8-sig", "utf-16", "latin-1", "utf-32")


def nested(pairs):
    """A tree of sections; of keys that clash the first one stays."""
    tree = {}
    for key, value in pairs.items():
        node, *path = tree, *key.split(".")
        for part in path[:-1]:
            node = node.setdefault(part, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[path[-1]] = value
    return tree


@st.composite
def misspelt(draw):
    """A key that is nearly one of the table's."""
    key = draw(st.sampled_from(sorted(ROWS)))
    at = draw(st.integers(0, len(key) - 1))
    return draw(
        st.sampled_from(
            [
                *(key[:at] + key[at + 1 :], key[:at] + "x" + key[at:]),
                *(key + ".x", "x." + key, key.upper(), key[:at], key + "."),
                *(key.partition(".")[0], "__" + key, "." + key, ""),
                *(key.replace(".", "..", 1), "is_ready_for_run"),
                *("cfg_check_funcs", "__cfg_check_funcs__", "new_allowed"),
            ]
        )
    )


@st.composite
def trees(draw):
    """A few keys, of which some have odd names or odd values."""
    pairs = {}
    for _ in range(draw(st.integers(1, 4))):
        key = draw(st.sampled_from(sorted(ROWS)))
        value = draw(right(ROWS[key].kind) | ODD)
        if draw(st.integers(0, 5)) == 0:
            key = draw(misspelt())
        pairs[key] = value
    return nested(pairs)


@st.composite
def files(draw):
    """The bytes of a YAML file."""
    text = yaml.dump(draw(trees()))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(PIECES) + text[at:]
    how = draw(st.integers(0, 29))
    if how == 0:
        text += text
    if how == 1:
        text = draw(PIECES)
    data = text.encode(
        draw(st.sampled_from(ENCODINGS)), errors="backslashreplace"
    )
    if how == 2:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=8)) + data[at:]
    if how == 3:
        data = data[: draw(st.integers(0, len(data)))]
    return data
