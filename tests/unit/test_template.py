"""Structured fields become one text; what is null leaves no trace."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsearch.errors import DeclarationError
from hybridsearch.template import as_text, render

PRODUCT = "{title}. Brand: {brand}. {attrs}"
FULL = {"title": "Desk lamp", "brand": "Lux", "attrs": {"colour": "red", "watts": 5}}


def test_every_field_is_written():
    assert render(PRODUCT, FULL) == "Desk lamp. Brand: Lux. colour: red; watts: 5"


@pytest.mark.parametrize("nothing", [None, "", "  \n", {}, [], {"a": None}, [None, ""], {"a": {"b": []}}])
def test_a_field_with_nothing_to_say_is_left_out_with_its_label(nothing):
    assert render(PRODUCT, FULL | {"brand": nothing}) == "Desk lamp. colour: red; watts: 5"


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ({"title"}, "Brand: Lux. colour: red; watts: 5"),
        ({"attrs"}, "Desk lamp. Brand: Lux."),
        ({"title", "brand"}, "colour: red; watts: 5"),
        ({"title", "attrs"}, "Brand: Lux."),
        ({"title", "brand", "attrs"}, ""),
    ],
)
def test_any_fields_can_be_null(missing, left):
    assert render(PRODUCT, {k: None if k in missing else v for k, v in FULL.items()}) == left


@pytest.mark.parametrize(
    ("template", "left"),
    [
        ("{a} ({b})", "A"),
        ("{a} ({b}). {c}", "A. C"),
        ("{a}: {b}", "A:"),
        ("{b}: {a}", "A"),
        ("{a}\n{b}, {c}", "A\nC"),
        ("{b}, {a}\n{c}", "A\nC"),
        ("{a}, {b}\n{c}", "A\nC"),
        ("{a}. Weight: {b} kg. Made in {c}.", "A. Made in C."),
        ("{a} {b} {c}", "A C"),
        ("{a} - {b} - {c}", "A - C"),
        ("Product: {b}. {c}", "C"),
        ("{a}; {b}", "A;"),
        ("{{{a}}}", "{A}"),
    ],
)
def test_b_is_null(template, left):
    assert render(template, {"a": "A", "b": None, "c": "C"}) == left


def test_a_value_that_ends_its_sentence_gets_no_second_full_stop():
    assert render("{a}. {b}.", {"a": "Really?", "b": "Yes."}) == "Really? Yes."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"size": {"width": 3, "depth": None, "height": 4}}, "size width: 3; size height: 4"),
        ({"sizes": [41, 42]}, "sizes: 41, 42"),
        ([{"a": 1}, {"b": 2}], "a: 1, b: 2"),
        ({"new": True, "used": False}, "new: true; used: false"),
        (Decimal("9.90"), "9.90"),
        (0, "0"),
        ({"b", "a"}, "a, b"),
        (b"x", "b'x'"),
    ],
)
def test_values_of_every_column_type_are_written(value, text):
    assert as_text(value) == text


@pytest.mark.parametrize("template", ["no field", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a", "a}"])
def test_a_template_that_cannot_be_filled_is_refused(template):
    with pytest.raises(DeclarationError, match="template"):
        render(template, {"a": 1})


def test_a_field_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(DeclarationError, match=r"\{brnd\}; the fields are title, brand"):
        render("{title} {brnd}", {"title": "x", "brand": "y"})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


@given(st.dictionaries(st.sampled_from("abc"), VALUES), st.sampled_from(["{a}. B: {b}. {c}", "{a} ({b})\n{c}"]))
def test_every_value_that_is_not_empty_is_in_the_text(values, template):
    values = {"a": None, "b": None, "c": None} | values
    text = render(template, values)
    assert all(as_text(value) in text for value in values.values())
    assert bool(text) == any(as_text(value) for value in values.values())
