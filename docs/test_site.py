"""The built site in build/docs: it fetches nothing from elsewhere, and names all that is public."""

from __future__ import annotations

import importlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from related import of_classes
from sphinx.util.inventory import InventoryFile

from anyprop._names import names_of
from anyprop.layers.registry import LAYERS
from anyprop.losses.registry import LOSSES
from anyprop.optimizers.registry import OPTIMIZERS

DOCS = Path(__file__).parent
SITE = DOCS.parent / "build" / "docs"
PAGES = sorted(SITE.rglob("*.html"))


class Fetches(HTMLParser):
    """What a browser fetches for a page without being asked."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") in {"canonical", "next", "prev", "search", "index"}:
            return
        names = {
            "link": ["href"],
            "a": [],
            "use": ["href", "xlink:href"],
            "image": ["href", "xlink:href"],
        }
        for name in names.get(tag, ["src", "srcset", "data", "poster", "background"]):
            self.found.append(values.get(name) or "")
        self.found += re.findall(r"url\([\"']?([^)\"']*)", values.get("style") or "")


def fetched(page: Path) -> list[str]:
    parser = Fetches()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.found


def is_elsewhere(address: str) -> bool:
    return re.match(r"\s*([a-z]+:)?//", address) is not None


def test_the_site_is_there():
    assert len(PAGES) > 100


def test_it_has_an_icon():
    (icon,) = (SITE / "_static").glob("favicon.*")
    links = [address for address in fetched(SITE / "index.html") if "favicon" in address]
    assert links == [f"_static/{icon.name}"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SITE)))
def test_a_page_fetches_nothing_from_elsewhere(page):
    assert not [address for address in fetched(page) if is_elsewhere(address)]


def test_styles_fetch_nothing_from_elsewhere():
    for style in SITE.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        addresses = re.findall(r"url\([\"']?([^)\"']*)|@import\s+[\"']([^\"']*)", text)
        assert not [a for pair in addresses for a in pair if is_elsewhere(a)], style


def test_an_address_elsewhere_is_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<a href="https://a.org"></a><script src="//b.org/c.js"></script>')
    assert [a for a in fetched(page) if is_elsewhere(a)] == ["//b.org/c.js"]


def test_every_example_with_a_prompt_is_run():
    for page in sorted(Path(__file__).parent.rglob("*.md")):
        fences = re.split(r"^`{3,}(.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for opening, text in zip(fences[1::2], fences[2::2], strict=True):
            assert ">>> " not in text or opening.startswith("{doctest}"), page


def documented() -> set[str]:
    with (SITE / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, path: path)
    kinds = [kind for kind in inventory if kind.startswith("py:")]
    return {name for kind in kinds for name in inventory[kind]}


def test_the_reference_has_every_public_name():
    names = set()
    for package in ("anyprop", "anyprop.interchange", "anyprop.schedules"):  # the last one counts
        names -= {f"anyprop.{name}" for name in names_of(package)}
        names |= {f"{package}.{name}" for name in names_of(package)}
    names |= {f"anyprop.book.{name}" for name in importlib.import_module("anyprop.book").__all__}
    names |= {
        f"anyprop.initializers.{name}"
        for name, value in vars(importlib.import_module("anyprop.initializers")).items()
        if not name.startswith("_")
        and isinstance(value, type)
        and value.__module__ == "anyprop.initializers"
    }
    distributed = importlib.import_module("anyprop.distributed")
    names |= {f"anyprop.distributed.{name}" for name in distributed.__all__}
    assert names - documented() == set()


@pytest.mark.parametrize(
    ("kind", "classes"), [("layers", LAYERS), ("losses", LOSSES), ("optimizers", OPTIMIZERS)]
)
def test_every_layer_loss_and_optimizer_is_derived(kind, classes):
    pages = {page.stem for page in (SITE / "derivations" / kind).glob("*.html")}
    assert pages - {"index"} == {of.__module__.rpartition(".")[2] for of in classes.values()}


@pytest.mark.parametrize(("name", "page"), of_classes().items())
def test_derivation_reference_and_playground_link_to_one_another(name, page):
    derivation = (SITE / "derivations" / f"{page}.html").read_text(encoding="utf-8")
    reference = (SITE / "reference" / "generated" / f"anyprop.{name}.html").read_text("utf-8")
    assert f"reference/generated/anyprop.{name}.html" in derivation
    assert f"derivations/{page}.html" in reference
    stem = page.rpartition("/")[2]
    rules = (DOCS / "_static" / "playground" / "optimizers.js").read_text(encoding="utf-8")
    for text in (derivation, reference) if f"\n    {stem}: {{" in rules else ():
        assert f"playground.html#optimizer={stem}" in text
    assert "highlight-text" in reference.partition('class="py class"')[0]  # the formula, first


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Layer", "output_shape(shape)"),
        ("Loss", "dvalue"),
        ("Optimizer", "scalars(t, lr)"),
        ("schedules.Schedule", "for_run(lr, steps)"),
        ("Callback", "on_settled(run)"),
    ],
)
def test_the_reference_of_a_base_class_has_its_contract(name, word):
    page = (SITE / "reference" / "generated" / f"anyprop.{name}.html").read_text("utf-8")
    before = page.partition('class="py class"')[0]
    assert "highlight-text" in before
    assert word in re.sub("<[^>]*>", "", before)


@pytest.mark.parametrize("folder", ["start", "how-to", "reference"])
def test_an_index_has_a_word_on_every_page(folder):
    index = (DOCS / folder / "index.md").read_text(encoding="utf-8")
    for page in (DOCS / folder).glob("*.md"):
        if page.stem != "index":
            assert re.search(rf"\]\({page.name}\): .+", index), page.name
