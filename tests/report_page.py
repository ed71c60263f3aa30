"""What every report has to be: well-formed, self-contained, drawn from numbers."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from hil.report.charts import numbers

VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{7*7}}&\u202e\x00\ud800[red]"


class Page(HTMLParser):
    """Checks that tags are balanced while it collects tags, attributes, ids and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.extend((tag, key, value or "") for key, value in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def ids(self) -> list[str]:
        return [value for _, key, value in self.attributes if key == "id"]

    @property
    def visible(self) -> str:
        return " ".join(" ".join(self.text).replace(numbers.NBSP, " ").split())


def drawings(html: str) -> Iterator[ElementTree.Element]:
    """Every figure, parsed as XML."""
    for source in re.findall(r"<svg.*?</svg>", html, re.S):
        yield ElementTree.fromstring(source)


def assert_sound(html: str) -> Page:
    """Parses, refers to nothing outside, runs nothing, draws nothing that is not a number."""
    page = Page(html)
    html.encode("utf-8")
    assert not {"script", "img", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    for tag, key, value in page.attributes:
        assert not key.startswith("on"), (tag, key)
        assert key not in {"src", "srcset", "xlink:href", "style", "action"}, (tag, key)
        assert key != "href" or value.startswith("#"), value
        if key != "content" and tag != "title":
            assert not re.search(r"\b(nan|inf)\b", value), (tag, key, value)
    assert not re.search(r"https?:|@import|url\((?!#)", html)
    assert len(page.ids) == len(set(page.ids))
    for figure in drawings(html):
        assert figure.get("viewBox")
    return page


def map_leaves(value: Any, change: Any) -> Any:
    """`value` with `change` applied to every leaf."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {item.name: map_leaves(getattr(value, item.name), change) for item in dataclasses.fields(value)}
        return replace(value, **fields)
    if isinstance(value, tuple):
        return tuple(map_leaves(item, change) for item in value)
    if isinstance(value, dict):
        return {change(key): map_leaves(item, change) for key, item in value.items()}
    return change(value)
