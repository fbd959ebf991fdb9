"""Links in Markdown lead somewhere."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.house.sources import ROOT, markdown_files

FENCE = re.compile(r"^(?P<mark> {0,3}(```+|~~~+)).*?^ {0,3}\2[`~]*\s*?$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?:(?!\1).)+\1")
INLINE = re.compile(r"\]\(\s*<?([^()\s<>]+(?:\([^()\s]*\)[^()\s<>]*)?)>?(?:\s+[\"'(][^)]*)?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
ANCHOR = re.compile(r"<\w+\s[^>]*\b(?:id|name)=[\"']([^\"']+)[\"']")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@pytest.mark.parametrize("name", markdown_files())
def test_links_lead_somewhere(name: str) -> None:
    """A relative link names a file that exists, and its anchor a heading of that file."""
    assert [] == link_problems(ROOT / name)


@pytest.mark.parametrize(
    "text",
    [
        "[x](absent.md)",
        "![x](images/absent.png)",
        "[x](#absent)",
        "[x](other.md#absent)",
        "[x]: absent.md",
        '[x](absent.md "Title")',
        "[x](../../../../../../../../absent)",
        "```\n# Absent\n```\n\n[x](#absent)",
    ],
)
def test_a_dead_link_is_found(tmp_path: Path, text: str) -> None:
    """Inline links, images, references, files and anchors are all followed."""
    assert 1 == len(link_problems(page(tmp_path, text)))


@pytest.mark.parametrize(
    "text",
    [
        "[x](other.md)",
        "[x](other.md#the-second-parts-name)",
        "[x](other.md#again-1)",
        "# A `code` heading\n\n[x](#a-code-heading)",
        "[x](https://example.org/absent) and <mailto:a@example.org>",
        "[x](directory)",
        "`[x](absent.md)`",
        "```sh\n[x](absent.md)\n```",
        '<a id="here"></a>\n\n[x](#here)',
        "rules[0](context)[1]",
    ],
)
def test_a_living_link_passes(tmp_path: Path, text: str) -> None:
    """Code is no link, another site is not asked, and anchors are made as GitHub makes them."""
    assert [] == link_problems(page(tmp_path, text))


def page(directory: Path, text: str) -> Path:
    """A page with this text, beside another page and a directory."""
    (directory / "directory").mkdir()
    (directory / "other.md").write_text("# Other\n\n## The second part's name\n\n## Again\n\n## Again\n")
    (directory / "context").touch()
    path = directory / "page.md"
    path.write_text(text)
    return path


def link_problems(path: Path) -> list[str]:
    """One line for every link of a Markdown file that leads nowhere."""
    text = CODE.sub("", FENCE.sub("", path.read_text(encoding="utf-8")))
    links = INLINE.findall(text) + REFERENCE.findall(text)
    return [f"{path.name}: {link} leads nowhere" for link in links if not SCHEME.match(link) and not leads(path, link)]


def leads(path: Path, link: str) -> bool:
    """Whether a relative link leads to a file and, with an anchor, to a part of it."""
    target, _, anchor = unquote(link).partition("#")
    file = path.parent / target if target else path
    if not file.exists():
        return False
    return not anchor or file.suffix != ".md" or anchor in anchors(file.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown text, headings as GitHub names them."""
    text = FENCE.sub("", text)
    found = set(ANCHOR.findall(text))
    for heading in HEADING.findall(text):
        visible = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", visible.lower()).replace(" ", "-")
        repeats = sum(1 for known in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", known))
        found.add(f"{slug}-{repeats}" if slug in found else slug)
    return found
