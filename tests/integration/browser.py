"""Run by the environment that has Playwright: opens pages in Debian's Chromium and says as JSON
what it saw. `browser.py FOLDER FILE...`; screenshots go to FOLDER.

Nothing but the files themselves may be asked for: whatever else is, is refused and reported.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request, Route

CHROMIUM = "/usr/bin/chromium"
PATIENCE_MS = 240_000  # a busy machine takes longer than Playwright waits
VIEWS = {"light": ("light", 1200), "dark": ("dark", 1200), "phone": ("light", 375)}

# WCAG 2.2: relative luminance, and contrast (L1 + 0.05) / (L2 + 0.05), of every text that is seen,
# against the nearest ground behind it that is not transparent.
CONTRASTS = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => channels(color).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if ((channels(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (["title", "desc", "style"].includes(element.localName)) continue;
    const style = getComputedStyle(element);
    const color = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(color), light(ground(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), texts.currentNode.data.trim().slice(0, 40)]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""
# Of each figure, the numbers in its table.
FIGURES = """() => Object.fromEntries([...document.querySelectorAll("figure")].map((figure) => [
  figure.querySelector("figcaption").textContent,
  [...figure.querySelectorAll("tbody tr")].map((row) =>
    [...row.querySelectorAll("th, td")].map((cell) => cell.textContent)),
]))"""
# Tables of which something lies beyond the right edge, those that are folded among them.
HIDDEN = """() => {
  const folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((e) => e.open = true);
  const found = [...document.querySelectorAll(".box")].filter((e) => e.scrollWidth > e.clientWidth)
    .map((e) => `${e.ariaLabel}: ${e.scrollWidth} of ${e.clientWidth}`);
  folded.forEach((e) => e.open = false);
  return found;
}"""


def look(page: "Page", file: Path, shot: Path) -> dict:
    said: list[str] = []
    refused: list[str] = []

    def only_the_file(route: "Route", request: "Request") -> None:
        if request.url == file.as_uri():
            route.continue_()
        else:
            refused.append(request.url)
            route.abort()

    page.route("**/*", only_the_file)
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    page.screenshot(path=shot, full_page=True)
    return {
        "said": said,
        "refused": refused,
        "width": page.evaluate("[document.documentElement.scrollWidth, innerWidth]"),
        "ground": page.evaluate("getComputedStyle(document.body).backgroundColor"),
        "contrasts": page.evaluate(CONTRASTS),
        "figures": page.evaluate(FIGURES),
        "scripts": page.evaluate("document.scripts.length"),
        "title": page.title(),
        "text": page.inner_text("body"),
        "headings": page.eval_on_selector_all("h1, h2, h3", "all => all.map(e => e.localName)"),
        "hidden": page.evaluate(HIDDEN),
        # of the tree that a screen reader is given
        "images": page.get_by_role("img").evaluate_all(
            "all => all.map(e => e.querySelector('title').textContent)"
        ),
        "shot": str(shot),
    }


def main(folder: Path, files: list[Path]) -> None:
    from playwright.sync_api import sync_playwright  # the tests that read this file lack it

    seen: dict[str, dict[str, dict]] = {}
    with sync_playwright() as playwright:
        # Its sandbox needs more than a container's root has; the pages are our own.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE_MS
        )
        for file in files:
            for view, (scheme, width) in VIEWS.items():
                size = {"width": width, "height": 900}
                context = browser.new_context(viewport=size, color_scheme=scheme)
                context.set_default_timeout(PATIENCE_MS)
                shot = folder / f"{file.stem}-{view}.png"
                seen.setdefault(file.stem, {})[view] = look(context.new_page(), file, shot)
                context.close()
        browser.close()
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
