"""Every link inside the repository leads somewhere, and every page can be reached."""

import pytest
import yaml

from tests.docs.pages import DOCS, ROOT, Found, all_pages, anchors, relative_links

LINKS = [link for page in all_pages() for link in relative_links(page)]


@pytest.mark.parametrize("link", LINKS, ids=lambda link: f"{link}-{link.text}")
def test_a_link_leads_to_a_file(link: Found) -> None:
    path, _, anchor = link.text.partition("#")

    target = (link.page.parent / path).resolve() if path else link.page

    assert target.exists()
    if anchor:
        assert anchor in anchors(target)


@pytest.mark.parametrize("link", LINKS, ids=lambda link: f"{link}-{link.text}")
def test_a_link_in_docs_stays_in_the_site(link: Found) -> None:
    if link.page.is_relative_to(DOCS):
        target = (link.page.parent / link.text.partition("#")[0]).resolve()

        assert target.is_relative_to(DOCS)


def test_the_site_lists_every_page_once() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    listed = sorted(_paths(site["nav"]))

    assert listed == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def _paths(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    assert not isinstance(inner, str | None)
    return [path for item in inner for path in _paths(item)]
