"""The pages of the repository, and what stands in them: code blocks, code in a line, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of a page."""

    page: Path
    line: int
    text: str
    language: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def all_pages() -> list[Path]:
    """Return README, the other pages beside it, and everything in docs."""
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def code_blocks(page: Path) -> Iterator[Found]:
    """Yield the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        yield Found(page, _line(text, match.start()) + 1, match[2], match[1])


def inline_codes(page: Path) -> Iterator[Found]:
    """Yield the code that stands inside sentences; a line break in it counts as a space."""
    text = _without_blocks(page)
    for match in _INLINE.finditer(text):
        yield Found(page, _line(text, match.start()), " ".join(match[1].split()))


def relative_links(page: Path) -> Iterator[Found]:
    """Yield the links that lead to files or headings of this repository."""
    text = _without_blocks(page)
    for match in _LINK.finditer(text):
        if not match[1].startswith(("http:", "https:", "mailto:")):
            yield Found(page, _line(text, match.start()), match[1])


def anchors(page: Path) -> set[str]:
    """Return the names by which the headings of a page can be linked to."""
    headings = (match[1].lower() for match in _HEADING.finditer(_without_blocks(page)))
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip()) for heading in headings}


def _without_blocks(page: Path) -> str:
    """Return the text of a page with its fenced blocks blanked, line numbers kept."""
    text = page.read_text(encoding="utf-8")
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
