"""Debian's Chromium without a screen, driven by its own driver, and axe-core to look at pages."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.peers import require

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PHONE = (390, 844)
DESKTOP = (1280, 900)


def axe_source() -> str:
    """axe-core, from the package that brings it; see docs/dependencies.md."""
    try:
        found = [one for one in files("axe-playwright-python") or () if one.name == "axe.min.js"]
    except PackageNotFoundError:
        found = []
    assert found, "axe-core is missing: tools/bootstrap.sh dev installs it"
    return Path(str(found[0].locate())).read_text("utf-8")


class Screen:
    """A browser's window: its size, its colours, pictures of it, and what axe says of it."""

    def __init__(self, artifacts: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = require("chromium")
        for one in (
            "headless=new",
            "disable-gpu",
            "disable-dev-shm-usage",
            "hide-scrollbars",
            "ignore-certificate-errors",  # the broker's authority is of this test alone
            "no-first-run",
            *(("no-sandbox",) if os.getuid() == 0 else ()),
        ):
            options.add_argument(f"--{one}")
        self.driver: Chrome = webdriver.Chrome(options, Service(require("chromedriver")))
        self.driver.set_page_load_timeout(20)
        self.artifacts = artifacts
        self._axe = axe_source()
        self._size = DESKTOP
        self._scheme = "light"

    def close(self) -> None:
        """End the browser."""
        self.driver.quit()

    def show_as(self, size: tuple[int, int], scheme: str) -> None:
        """As a window of this size has it, in ``light`` or ``dark``."""
        self._size, self._scheme = size, scheme
        self._resize(size[1])
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def _resize(self, height: int) -> None:
        width = self._size[0]
        metrics = {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        }  # fmt: skip
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def picture(self, name: str) -> None:
        """All of the page, as a file among the artifacts."""
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        self._resize(min(int(height), 3000))
        where = self.artifacts / f"{name}-{self._size[0]}-{self._scheme}.png"
        assert self.driver.save_screenshot(str(where))
        self._resize(self._size[1])

    def check(self, name: str) -> None:
        """No violation of accessibility, nothing beside the window, nothing that failed to load."""
        found: Any = self.driver.execute_async_script(
            self._axe
            + """;const done = arguments[arguments.length - 1];
            axe.run(document, {resultTypes: ['violations']}).then(
              (r) => done(r.violations.map((v) => v.id + ': '
                + v.nodes.map((n) => n.html.slice(0, 200) + ' ' + n.failureSummary).join('; '))),
              (e) => done([String(e)]));"""
        )
        assert found == [], f"{name}: {found}"
        inside = self.driver.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert inside[0] <= inside[1], f"{name} is {inside[0]} pixels wide, of {inside[1]}"
        style = "return getComputedStyle(document.querySelector('header')).borderBottomStyle"
        assert self.driver.execute_script(style) == "solid", "the style sheet is not in use"
