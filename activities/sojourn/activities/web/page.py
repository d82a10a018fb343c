"""What a page says, as a model reads it best."""

import re
import warnings
from dataclasses import dataclass

from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning
from markdownify import ATX, MarkdownConverter

# What is no text for a reader.
_NOISE = ["script", "style", "noscript", "template", "svg", "canvas", "iframe", "object", "embed", "form"]


@dataclass(frozen=True, slots=True)
class Page:
    """A page as text."""

    title: str
    text: str


def read_page(data: bytes, *, encoding: str | None) -> Page:
    """Make markdown of HTML.

    Args:
        data: The page.
        encoding: As the server told; ``None`` lets the page say.

    Raises:
        ValueError: It is nested too deeply to be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(data, "lxml", from_encoding=encoding)
    try:
        title = " ".join(soup.title.get_text().split()) if soup.title else ""
        for each in soup.find_all([*_NOISE, "head"]):
            each.decompose()
        for each in soup.find_all("img", src=re.compile(r"^\s*data:")):
            each.decompose()
        text = MarkdownConverter(heading_style=ATX, bullets="-", keep_inline_images_in=[]).convert_soup(soup)
    except RecursionError:
        raise ValueError("the page is nested too deeply to be read") from None
    return Page(title[:500], re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip())
