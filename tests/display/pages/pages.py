"""What the tests of pages share."""

import json
from html.parser import HTMLParser


class Page(HTMLParser):
    """The elements of a page, each (name, attributes), with the text behind their opening tags."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.inside = [], [], False
        self.feed(page)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        self.inside = True

    def handle_endtag(self, name):
        self.inside = False

    def handle_data(self, text):
        if self.inside:
            self.texts.append((self.elements[-1], text))

    @property
    def data(self):
        """What the page holds as JSON."""
        [data] = [text for (_, given), text in self.texts if given.get("type") == "application/json"]
        return json.loads(data)

    @property
    def loaded(self):
        """What the page would load from elsewhere."""
        sources = [given for _, given in self.elements if {"src", "srcset", "data", "action"} & {*given}]
        sources += [name for name, _ in self.elements if name in ("link", "iframe", "img", "object", "embed")]
        styles = [text for (name, _), text in self.texts if name == "style"]
        return sources + [text for text in styles if "url(" in text or "@import" in text]


def decoded(text):
    """The positions of "0-4,7"."""
    pairs = [(run.split("-") * 2)[:2] for run in text.split(",")] if text else []
    return {place for first, last in pairs for place in range(int(first), int(last) + 1)}
