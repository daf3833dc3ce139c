"""The console's main paths in Chromium: with keys alone, on a phone, light and dark, and axe.

Pictures of all pages are left in the folder that the ini option ``artifacts`` names.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

from boltseal.broker.service import trusts
from boltseal.broker.service.access import SYSTEM
from support.broker_console import IMAGE, POLICY, open_database, principal, request, write
from support.broker_identity import authority
from support.chromium import DESKTOP, PHONE, Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def screen(pytestconfig: pytest.Config) -> Iterator[Screen]:
    folder: Path = pytestconfig.rootpath / pytestconfig.getini("artifacts") / "console"
    folder.mkdir(parents=True, exist_ok=True)
    found = Screen(folder)
    yield found
    found.close()


# what the keyboard is on: its name, its id, and how the focus is drawn
_ON = """const on = document.activeElement;
const name = on.getAttribute('aria-label') || on.textContent.trim();
return [name, on.id, getComputedStyle(on).outlineStyle];"""


class Walker:
    """Somebody in front of the console. ``press`` and ``type`` are all that a keyboard has."""

    def __init__(self, screen: Screen, base: str) -> None:
        self.screen = screen
        self.driver = screen.driver
        self.base = base

    def go(self, path: str) -> None:
        self.driver.get(f"{self.base}/console{path}")

    @property
    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "main").text

    def look(self, name: str) -> None:
        self.screen.check(name)
        self.screen.picture(name)

    def press(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def tab_to(self, wanted: str) -> None:
        """With the tabulator alone to what has this name or id; what is on is to be seen."""
        tab = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        for _ in range(60):
            for kind in ("keyDown", "keyUp"):
                self.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, **tab})
            name, identifier, outline = self.driver.execute_script(_ON)
            if wanted in (name, identifier):
                assert outline == "solid", f"{wanted} is not marked"
                return
        raise AssertionError(f"no tabulator leads to {wanted}")

    def click(self, name: str) -> None:
        """The button or link of this accessible name."""
        for one in self.driver.find_elements(By.CSS_SELECTOR, "button, a"):
            if one.accessible_name == name:
                self._follow(one.click)
                return
        raise AssertionError(f"there is no {name}")

    def enter(self) -> None:
        """Press Enter on what leads to another page."""
        self._follow(lambda: self.press(Keys.ENTER))

    def _follow(self, go: Callable[[], None]) -> None:
        before = self.driver.find_element(By.TAG_NAME, "html")
        go()
        WebDriverWait(self.driver, 20, 0.02).until(expected_conditions.staleness_of(before))

    def fill(self, identifier: str, text: str) -> None:
        field = self.driver.find_element(By.ID, identifier)
        field.clear()
        field.send_keys(text)

    def sign_in(self, token: str) -> None:
        self.go("/sign-in")
        self.fill("token", token + Keys.ENTER)
        self.wait_for("/t/", "/tenants")

    def wait_for(self, *ends: str) -> None:
        until = time.monotonic() + 20
        while not any(one in self.driver.current_url for one in ends):
            assert time.monotonic() < until, self.driver.current_url
            time.sleep(0.02)


@pytest.fixture
def walker(screen, broker) -> Walker:
    screen.driver.delete_all_cookies()
    return Walker(screen, broker.url)


def test_the_main_paths_with_the_keyboard_alone(broker, walker, screen, tenant, sign_in):
    """Sign in, make a key, rotate it, write policies (wrong ones first), revoke, sign out."""
    token = sign_in(tenant).token
    screen.show_as(DESKTOP, "light")
    walker.go("/sign-in")
    walker.look("sign-in")
    walker.tab_to("token")
    walker.press(token, Keys.ENTER)
    walker.wait_for(f"/t/{tenant}")
    walker.tab_to("Skip to the content")
    walker.tab_to("Keys")
    walker.enter()
    walker.wait_for("/keys")
    walker.tab_to("name")
    walker.press("vault")
    walker.tab_to("published")
    walker.press(Keys.SPACE)
    walker.tab_to("Make the key")
    walker.enter()
    walker.wait_for("key-created")
    assert "published: anybody may fetch it" in walker.text
    walker.tab_to("Make a new version")
    walker.enter()
    walker.wait_for("rotated")
    walker.look("key")
    assert len(walker.driver.find_elements(By.CSS_SELECTOR, "tbody tr")) == 2

    walker.tab_to("Policies")
    walker.enter()
    walker.tab_to("Write the first version")
    walker.enter()
    walker.tab_to("text")
    broken = POLICY.replace('getTag("region")', 'getTag("region"')
    walker.press(Keys.CONTROL, "a")
    walker.press(broken)
    walker.tab_to("Check, and try on past requests")
    walker.enter()
    walker.wait_for("/policies/edit")
    assert "1 thing is wrong" in walker.text
    assert walker.driver.find_element(By.CSS_SELECTOR, ".wrong").get_attribute("id") == "line-3"
    walker.look("policy-with-an-error")
    walker.tab_to("text")
    walker.press(Keys.CONTROL, "a")
    walker.press(POLICY)
    walker.tab_to("comment")
    walker.press("The EU alone")
    walker.tab_to("Keep as a new version")
    walker.enter()
    walker.wait_for("policy-saved")
    walker.tab_to("Activate version 1")
    walker.enter()
    walker.wait_for("policy-active")
    walker.look("policy")

    walker.tab_to("Revocations")
    walker.enter()
    walker.tab_to("credential")
    walker.press("identity:x509:eu:stolen")
    walker.tab_to("reason")
    walker.press("a stolen laptop", Keys.ENTER)
    walker.wait_for("revoked")
    assert "a stolen laptop" in walker.text
    walker.tab_to("Sign out")
    walker.enter()
    walker.wait_for("signed-out")


def test_every_page_on_a_phone_and_on_a_desk_light_and_dark(broker, walker, screen, tenant, now):
    """Every page has no violation and stays within the window; none shows less than it should."""
    pem = authority(f"EU {tenant}", now % 50).certificate.public_bytes(Encoding.PEM).decode()
    eu = {"ca": pem, "labels": {"env": "prod", "region": "eu"}, "cluster": "cluster-eu"}
    with open_database(broker) as database:
        trusts.set_trust(database, SYSTEM, tenant, "cluster-eu", kind="x509", config=eu)
    key = f"{tenant}/default/prod-eu"
    asked = [principal(f"node-{n}", "us" if n % 3 == 2 else "eu", tenant) for n in range(6)]
    seqs = write(
        broker,
        *[request(one, now - 600 + n, allowed=n % 3 != 2, key=key) for n, one in enumerate(asked)],
    )
    screen.show_as(PHONE, "dark")
    walker.sign_in(broker.admin_token)
    base = f"/t/{tenant}"
    walker.go(f"{base}/policies/edit")
    walker.driver.execute_script("document.getElementById('text').value = arguments[0]", POLICY)
    walker.click("Check, and try on past requests")
    assert "4 newly allowed" in walker.text
    walker.look("policy-tried")
    walker.click("Keep as a new version")
    walker.click("Activate version 1")
    walker.go(f"{base}/revocations?credential=trust:cluster-us")
    walker.click("Revoke it")
    version = f"{base}/keys/default/prod-eu/versions/1"
    pages = {
        "tenants": "/tenants",
        "overview": base,
        "keys": f"{base}/keys",
        "version": version,
        "destroy": f"{version}/destroy",
        "policies": f"{base}/policies",
        "releases": f"{base}/releases",
        "release-refused": f"{base}/releases/{seqs[2]}",
        "revocations": f"{base}/revocations",
        "trusts": f"{base}/trusts",
        "trust": f"{base}/trusts/cluster-eu",
        "audit": f"{base}/audit?image={IMAGE}",
        "problem": f"{base}/nothing",
    }
    for number, (name, path) in enumerate(pages.items()):
        walker.go(path)
        schemes = ("light", "dark") if number % 2 else ("dark", "light")
        for size, scheme in zip((PHONE, DESKTOP), schemes, strict=True):
            screen.show_as(size, scheme)
            walker.look(name)
        if name == "release-refused":
            assert "wants the label region" in walker.text
            assert "asserted" in walker.text
    assert len(list(screen.artifacts.glob("*.png"))) >= 2 * len(pages)


def test_nothing_of_a_page_runs_or_comes_from_elsewhere(walker, broker, screen):
    screen.show_as(DESKTOP, "light")
    walker.driver.get_log("browser")  # what is said of earlier pages
    walker.sign_in(broker.admin_token)
    found = walker.driver.execute_script(
        """const made = document.createElement('script');
        made.textContent = 'document.title = "it ran"';
        document.body.append(made);
        return [document.title, document.scripts.length,
          performance.getEntriesByType('resource').map((one) => new URL(one.name).origin)];"""
    )
    assert found[0] == "Tenants · Boltseal key broker", "the policy of the page stops it"
    assert set(found[2]) == {broker.url}
    cookies = {one["name"]: one for one in walker.driver.get_cookies()}
    mine = cookies["__Host-boltseal-session"]
    assert (mine["httpOnly"], mine["secure"], mine["sameSite"]) == (True, True, "Strict")
    assert walker.driver.execute_script("return document.cookie") == ""
    said = [one["message"] for one in walker.driver.get_log("browser")]
    assert [one for one in said if "Content Security Policy" not in one] == []
