"""The page itself: what it shows, and that pointer, keyboard and screen reader can use it."""

from __future__ import annotations

import re

import pytest

from browser import DOCS, SOURCES, block

pytestmark = pytest.mark.needs("chromium")

# What the scripts below share.
TOOLS = """
    const $ = (selector) => document.querySelector(selector);
    const $$ = (selector) => [...document.querySelectorAll(selector)];
    const frames = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const wait = (time) => new Promise((done) => setTimeout(done, time));
    const address = async () => {
        await wait(400); // it is written when a change has come to rest
        return location.hash;
    };
    const type = (field, text) => {
        field.value = text;
        field.dispatchEvent(new Event("input", { bubbles: true }));
    };
    const field = (label) => document.getElementById(
        $$("#pg label").find(({ textContent }) => textContent === label).htmlFor);
    const counter = () => $(".pg-counter").textContent;
    const pixels = (selector) => {
        const canvas = $(selector);
        return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
    };
"""


def test_it_opens_with_an_example_that_is_explained(browser):
    script = """
        return { pressed: $$("[aria-pressed=true]").map((button) => button.textContent),
                 caption: $(".pg-caption").textContent, rows: $$(".pg-table tbody th").map(
                     (cell) => cell.textContent), counter: counter(), hash: await address() };
    """
    page = browser.evaluate(TOOLS + script)
    assert page["pressed"] == ["One rate, three rules"]
    assert "RMSProp leaps" in page["caption"]
    assert page["rows"] == ["RMSProp", "AdaGrad", "SGD"]
    assert page["counter"] == "60 / 60"
    assert page["hash"].startswith("#surface=valley&start=-7,2")


def test_every_example_draws(browser):
    script = """
        const seen = [];
        for (const button of $$("[data-preset]")) {
            button.click();
            await frames();
            const drawn = ["ground", "paths"].map((name) => new Set(pixels(`.pg-${name}`)).size);
            const charts = $$(".pg-chart canvas").map((canvas) => new Set(canvas.getContext("2d")
                .getImageData(0, 0, canvas.width, canvas.height).data).size);
            seen.push([button.getAttribute("aria-pressed"), ...drawn, ...charts]);
        }
        return seen;
    """
    seen = browser.evaluate(TOOLS + script)
    assert len(seen) == 11
    for pressed, *colours in seen:
        assert pressed == "true"
        assert min(colours) > 5


def test_an_address_is_shown_and_changed(browser):
    browser.open("#surface=kink&steps=20&rmsprop=lr:0.1,rho:0.5,centered:true")
    script = """
        const before = [$(".pg-equation").textContent, $$(".pg-python").map((line) => line.textContent)];
        type(field("lr"), "0.25");
        const after = await address();
        location.hash = "#surface=saddle&adam=lr:0.5&nothing=1";
        await wait(100);
        const then = $$(".pg-python").map((line) => line.textContent);
        const error = $("#pg > .pg-error");
        const refused = [error.textContent, error.hidden];
        type(field("lr"), "0.2");
        return { before, after, then, refused, afterwards: error.hidden };
    """
    page = browser.evaluate(TOOLS + script)
    assert page["before"] == ["f = |x|/4 + |y|", ["ap.RMSProp(lr=0.1, rho=0.5, centered=True)"]]
    assert "rmsprop=lr:0.25,rho:0.5,centered:true" in page["after"]
    assert page["then"] == ["ap.Adam(lr=0.5)"]
    assert page["refused"] == ["Not understood in the address, left out: nothing=1.", False]
    assert page["afterwards"]


def test_an_address_names_an_example_or_an_optimizer(browser):
    script = """
        return [$$("[aria-pressed=true]").map((button) => button.dataset.preset),
                $$(".pg-python").map((line) => line.textContent.split("(")[0])];
    """
    browser.open("#preset=cycle")
    assert browser.evaluate(TOOLS + script) == [["cycle"], ["ap.RMSProp"] * 2]
    browser.open("#optimizer=adagrad")
    assert browser.evaluate(TOOLS + script) == [["stalls"], ["ap.RMSProp", "ap.AdaGrad"]]
    browser.open("#optimizer=lion")
    assert browser.evaluate(TOOLS + script) == [[], ["ap.Lion", "ap.RMSProp"]]


def test_every_optimizer_has_an_address_that_shows_it(browser):
    script = """
        const wrong = [];
        for (const name of Object.keys(Playground.OPTIMIZERS)) {
            location.hash = `#optimizer=${name}`;
            await wait(20);
            const shown = $$(".pg-choice").map((choice) => choice.value);
            if (!shown.includes(name) || !$("#pg > .pg-error").hidden) wrong.push(name);
        }
        return wrong;
    """
    assert browser.evaluate(TOOLS + script) == []


def test_the_map_says_whose_markers_are_whose(browser):
    script = """
        const entries = () => $$(".pg-legend li").map((entry) => entry.textContent);
        const before = entries();
        $(".pg-remove").click(); await frames();
        return [before, entries(), $$(".pg-legend .pg-swatch").length,
                $(".pg-legend").getBoundingClientRect().bottom
                    < $(".pg-map").getBoundingClientRect().top];
    """
    signs = ["○ start (drag it)", "+ minimum"]
    assert browser.evaluate(TOOLS + script) == [
        ["RMSProp", "AdaGrad", "SGD", *signs],
        ["AdaGrad", "SGD", *signs],
        2,
        True,
    ]


def test_every_optimizer_links_to_its_derivation(browser):
    script = """
        return [...Object.keys(Playground.OPTIMIZERS)].map((name) => {
            const run = Playground.fromHash(`#optimizer=${name}`).settings.runs[0];
            const made = Playground.card(0, run, { rates: {}, surface: "valley" });
            return made.querySelector("a").getAttribute("href");
        });
    """
    for address in browser.evaluate(TOOLS + script):
        assert (DOCS / address.replace(".html", ".md")).is_file(), address


def test_the_contours_stand_out(browser):
    """A projector hides small differences: lines differ from their ground by a third of the range."""
    script = """
        const seen = [];
        for (const theme of ["light", "dark"]) {
            document.documentElement.dataset.theme = theme;
            await frames(); await wait(50);
            const green = pixels(".pg-ground").filter((_, i) => i % 4 === 1);
            const { width, height } = $(".pg-ground");
            const from = width * Math.floor(height / 2);
            const row = green.slice(from, from + width);
            seen.push(Math.max(...row.slice(3).map((value, i) => Math.abs(value - row[i]))));
        }
        return seen;
    """
    light, dark = browser.evaluate(TOOLS + script)
    assert light > 60
    assert dark > 40


def test_step_scrub_and_play(browser):
    script = """
        const [back, on] = ["One step back", "One step on"].map((name) => $(`[aria-label="${name}"]`));
        const seen = [counter()];
        back.click(); seen.push(counter());
        on.click(); on.click(); seen.push(counter());
        type($(".pg-transport input"), "10"); seen.push(counter());
        const table = $(".pg-table tbody").textContent;
        $("[aria-label=Speed]").value = "fast";
        $(".pg-play").click();
        seen.push($(".pg-play").textContent);
        await wait(1000);
        const during = Number(counter().split(" ")[0]);
        while (counter() !== "60 / 60") await wait(50);
        await frames();
        seen.push(counter(), $(".pg-play").textContent);
        return { seen, during, changed: table !== $(".pg-table tbody").textContent };
    """
    page = browser.evaluate(TOOLS + script)
    assert page["seen"] == [
        "60 / 60", "59 / 60", "60 / 60", "10 / 60", "Pause", "60 / 60", "Play",
    ]  # fmt: skip
    assert 10 < page["during"] < 60
    assert page["changed"]


START = 'return ["start x", "start y"].map((label) => Number(field(label).value));'


def test_the_start_moves_by_keys(browser):
    browser.evaluate(TOOLS + '$(".pg-handle").focus();')
    browser.key("ArrowRight")
    x, y = browser.evaluate(TOOLS + START)
    assert (-7.0 < x < -6.9, y) == (True, 2.0)
    browser.key("ArrowDown", shift=True)
    below = browser.evaluate(TOOLS + START)
    assert (below[0], 1.2 < below[1] < 1.5) == (x, True)


def test_the_start_is_dragged(browser):
    script = """
        const { left, top, width, height } = $(".pg-map").getBoundingClientRect();
        const handle = $(".pg-handle").getBoundingClientRect();
        return { from: [handle.left + handle.width / 2, handle.top + handle.height / 2],
                 to: [left + width / 2, top + height / 4] };
    """
    way = browser.evaluate(TOOLS + script)
    browser.mouse("Pressed", *way["from"])
    for share in (0.3, 0.7, 1.0):
        browser.mouse("Moved", *(a + share * (b - a) for a, b in zip(*way.values(), strict=True)))
    browser.mouse("Released", *way["to"])
    x, y = browser.evaluate(TOOLS + START)
    assert [x, y] == pytest.approx([-2.0, 2.0], abs=0.05)  # the middle, a quarter from the top
    assert f"start={x:g},{y:g}" in browser.evaluate(TOOLS + "return address();")


def test_the_keyboard_reaches_and_presses_play(browser):
    browser.evaluate(TOOLS + '$(".pg-handle").focus();')
    browser.key("Tab")
    assert browser.evaluate("return document.activeElement.textContent") == "Play"
    browser.key("Enter")
    assert browser.evaluate(TOOLS + 'return $(".pg-play").textContent') == "Pause"


def test_wrong_numbers_are_answered_by_a_sentence_and_change_nothing(browser):
    script = """
        const hash = await address();
        const said = (label, text) => {
            const input = field(label);
            type(input, text);
            return [input.closest("div").querySelector(".pg-error").textContent,
                    input.getAttribute("aria-invalid")];
        };
        const seen = [said("lr", "-1"), said("rho", "1"), said("steps", "2.5"), said("start x", "left")];
        const nesterov = field("nesterov");
        nesterov.click();
        seen.push([nesterov.closest("div").querySelector(".pg-error").textContent, nesterov.checked]);
        return { seen, same: hash === (await address()) };
    """
    page = browser.evaluate(TOOLS + script)
    assert page["seen"] == [
        ["lr must be above 0.", "true"],
        ["rho must be at least 0 and below 1.", "true"],
        ["steps must be a whole number from 1 to 1000.", "true"],
        ["start x must be a number.", "true"],
        ["nesterov needs a momentum above 0.", False],
    ]
    assert page["same"]


def test_optimizers_are_added_changed_and_removed(browser):
    script = """
        const names = () => $$(".pg-table tbody th").map((cell) => cell.textContent);
        const add = $$(".pg-add")[0];
        add.click(); await frames();
        const seen = [names()];
        const select = $$(".pg-choice")[3];
        select.value = "lion";
        select.dispatchEvent(new Event("change", { bubbles: true })); await frames();
        seen.push(names(), document.activeElement.value);
        $(".pg-remove").click(); await frames();
        seen.push(names());
        add.click(); add.click(); add.click();
        seen.push(add.disabled, $$(".pg-card").length);
        return seen;
    """
    assert browser.evaluate(TOOLS + script) == [
        ["RMSProp", "AdaGrad", "SGD", "Momentum"],
        ["RMSProp", "AdaGrad", "SGD", "Lion"],
        "lion",
        ["AdaGrad", "SGD", "Lion"],
        True,
        6,
    ]


def test_a_run_that_diverges_says_so(browser):
    browser.open("#surface=ravine&start=-1.2,0.4&steps=100&sgd=lr:1")
    text = browser.evaluate(TOOLS + 'return $(".pg-table tbody").textContent;')
    assert re.fullmatch(r"SGDdiverged at step \d+", text)


def test_everything_has_a_name_for_screen_readers(browser):
    script = """
        const nameless = $$("#pg :is(button, select, input, canvas:not([aria-hidden]))")
            .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() ||
                [...element.labels ?? []].some((label) => label.textContent.trim())))
            .map((element) => element.outerHTML);
        const focusable = $$("#pg :is(button, select, input)").every(({ tabIndex }) => tabIndex === 0);
        $(`[aria-label="One step back"]`).click();
        return { nameless, focusable, status: $("[role=status]").textContent };
    """
    page = browser.evaluate(TOOLS + script)
    assert page["nameless"] == []
    assert page["focusable"]
    assert page["status"].startswith("Step 59 of 60. RMSProp ")


def test_it_follows_the_sites_theme(browser):
    script = """
        const corner = () => pixels(".pg-ground").slice(0, 3);
        const light = corner();
        document.documentElement.dataset.theme = "dark";
        await frames(); await wait(50);
        const dark = corner();
        document.documentElement.dataset.theme = "light";
        await frames(); await wait(50);
        return { light, dark, again: corner() };
    """
    page = browser.evaluate(TOOLS + script)
    assert min(page["light"]) > 150
    assert max(page["dark"]) < 110
    assert page["again"] == page["light"]


@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_nothing_sticks_out_at_any_width(width, browser):
    browser.open(width=width)
    script = """
        $$("details").forEach((details) => (details.open = true));
        await frames();
        const edge = $("#pg").getBoundingClientRect().right + 0.5;
        const scrolls = ".pg-presets, .pg-hidden, .pg-map";
        const out = $$("#pg *").filter((element) => !element.parentElement.closest(scrolls))
            .filter((element) => element.getBoundingClientRect().right > edge);
        const { scrollWidth } = document.documentElement;
        return [out.map((element) => element.className), scrollWidth <= innerWidth];
    """
    assert browser.evaluate(TOOLS + script) == [[], True]


def test_it_needs_nothing_from_elsewhere():
    sources = [path.read_text(encoding="utf-8") for path in sorted(SOURCES.iterdir())]
    assert len(sources) == 11
    for source in [*sources, (DOCS / "playground.md").read_text(encoding="utf-8")]:
        assert not re.search(r"https?:|//cdn|\bimport\b.*\bfrom\b|\bfetch\(", source)


def test_every_file_is_loaded_once():
    loaded = re.findall(r'_static/playground/([\w.]+)"', block())
    assert sorted(loaded) == sorted(path.name for path in SOURCES.iterdir())


def test_a_long_drag_of_a_slider_writes_the_address_once(browser):
    """Safari refuses more than 100 changes of the address in 30 seconds, by an error."""
    script = """
        await address();
        let written = 0;
        const replace = history.replaceState.bind(history);
        history.replaceState = (...given) => { written++; replace(...given); };
        const slider = $(".pg-card .pg-slider");
        for (let i = 0; i < 200; i++) type(slider, String(i / 200));
        return [written, await address(), written, field("lr").value];
    """
    before, hash, after, lr = browser.evaluate(TOOLS + script)
    assert (before, after) == (0, 1)
    assert f"rmsprop=lr:{lr}&" in hash
