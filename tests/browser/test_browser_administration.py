"""The administrator's road: somebody who waits is let in, and the pages hold up everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import staged
from playwright.sync_api import BrowserContext, expect
from watched import Live, unsound, unsound_of

from nias_bridge.people import KeyKind, NewPerson, Quotas, Role
from nias_bridge.services import (
    accounts,
    administration,
    adopt,
    keys,
    retention,
    unixaccounts,
)
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.fake import FakeScheduler

PAGES = ("", "/groups", "/runs", "/unclaimed", "/storage", "/environments", "/log")


def administrator(live: Live) -> Bridge:
    return staged.as_person(live.bridge, "chief", Role.ADMINISTRATOR)


def newcomer(live: Live, name: str = "Nina Waiting") -> int:
    word = name.partition(" ")[0].lower()
    new = NewPerson(handle=word, email=f"{word}@university-hospital.example.org", name=name)
    return live.bridge.store.people.add(new, at=datetime.now(UTC)).id


def test_a_person_who_registered_is_approved_and_comes_in(
    live: Live, open_context: Callable[..., BrowserContext], complaints: list[str]
) -> None:
    hers = open_context([]).new_page()
    hers.goto("/register")
    hers.get_by_label("Name").fill("Nina Waiting")
    hers.get_by_label("E-mail").fill("nina@lab.org")
    hers.locator("input[name=password]").fill("rhubarb lantern gravel")
    hers.locator("main form button").click()
    expect(hers.get_by_role("heading", level=1)).to_have_text("Thank you")
    hers.goto("/sign-in")
    hers.get_by_label("E-mail").fill("nina@lab.org")
    hers.locator("input[name=password]").fill("rhubarb lantern gravel")
    hers.locator("main form button").click()
    expect(hers.get_by_role("alert")).to_contain_text("waits for an administrator")

    his = open_context([live.cookie_of(administrator(live))]).new_page()
    his.goto("/")
    his.get_by_role("link", name=re.compile("Administration.*1 waiting")).click()
    expect(his.locator("#waiting")).to_have_text("1 person waiting for your word")
    his.get_by_role("button", name="Approve Nina Waiting").click()
    expect(his.locator("#waiting")).to_have_count(0)
    expect(his.get_by_role("link", name="Nina Waiting")).to_be_visible()

    hers.locator("input[name=password]").fill("rhubarb lantern gravel")
    hers.locator("main form button").click()
    expect(hers.get_by_role("link", name="Nina Waiting")).to_be_visible()
    expect(hers.get_by_role("link", name="Administration")).to_have_count(0)
    # The refused sign-in is all that the browsers may complain of.
    assert [text for text in complaints if "403" not in text] == []


def test_a_disabled_person_is_turned_away_at_the_next_click(
    live: Live, open_context: Callable[..., BrowserContext]
) -> None:
    hers = open_context().new_page()
    hers.goto("/results")
    his = open_context([live.cookie_of(administrator(live))]).new_page()
    his.goto(f"/admin/people/{live.bridge.person.id}")
    his.on("dialog", lambda dialog: dialog.accept())
    his.get_by_role("button", name="Disable").click()
    expect(his.get_by_role("button", name="Enable")).to_be_visible()
    hers.goto("/results")
    expect(hers).to_have_url(re.compile("/sign-in"))


def test_a_group_that_shares_shows_its_members_each_others_results(
    live: Live, open_context: Callable[..., BrowserContext]
) -> None:
    run = staged.completed(staged.as_person(live.bridge, "berta"), "eeg-bands")
    his = open_context([live.cookie_of(administrator(live))]).new_page()
    his.goto("/admin/groups")
    his.get_by_label("Name").fill("EEG lab")
    his.get_by_label("Members see each other’s results").check()
    his.get_by_label("Berta").check()
    his.get_by_label("Lab", exact=True).check()
    his.get_by_role("button", name="Make the group").click()
    expect(his.get_by_role("heading", name="EEG lab")).to_be_visible()

    hers = open_context().new_page()
    hers.goto("/results")
    hers.get_by_label("Whose").select_option("Shared with me")
    hers.get_by_role("button", name="Show").click()
    row = hers.locator(f"#run-{run.id}")
    expect(row).to_contain_text("of Berta")
    row.get_by_role("link", name="eeg-bands", exact=True).click()
    expect(hers.get_by_role("heading", name=re.compile("eeg-bands.*of Berta"))).to_be_visible()
    for word in ("Run again", "Pin this run", "Share", "Remove its files"):
        expect(hers.get_by_role("button", name=word)).to_have_count(0)


def test_files_are_removed_at_a_word_and_the_page_says_so(
    live: Live, open_context: Callable[..., BrowserContext]
) -> None:
    run = staged.completed(live.bridge)
    page = open_context().new_page()
    page.goto(f"/runs/{run.id}")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove its files").click()
    expect(page.locator("#results")).to_contain_text("by you")
    expect(page.get_by_role("button", name="Run again")).to_have_count(0)


def test_jobs_of_nobodys_account_are_a_persons_once_they_are_linked_there(
    live: Live,
    open_context: Callable[..., BrowserContext],
    complaints: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unixaccounts, "check", lambda accounts, name: None)
    staged.unclaimed(live.bridge, "ana", "psd-study", job_id=70, at=datetime.now(UTC))
    his = open_context([live.cookie_of(administrator(live))]).new_page()
    his.on("dialog", lambda dialog: dialog.accept())
    his.goto("/admin")
    his.get_by_role("link", name=re.compile("Unclaimed 1")).click()
    expect(his.get_by_role("heading", name="ana")).to_be_visible()
    his.get_by_label("Link this account to").select_option(str(live.bridge.person.id))
    his.get_by_role("button", name="Link ana").click()
    expect(his.get_by_role("status")).to_contain_text("ana is linked to Lab")
    adopt.look(
        live.bridge, FakeScheduler(), [], (), datetime.now(UTC)
    )  # what the poller does in each round
    hers = open_context().new_page()
    hers.goto("/results")
    expect(hers.get_by_role("link", name="psd-study", exact=True)).to_be_visible()
    assert complaints == []


def test_in_a_browser_left_open_a_link_for_another_is_made_by_the_password_alone(
    live: Live, open_context: Callable[..., BrowserContext], complaints: list[str], axe: str
) -> None:
    chief = administrator(live)
    password = "rhubarb lantern gravel"
    link = keys.give_link(chief, KeyKind.PASSWORD, chief.person)
    accounts.set_password_by_link(chief, link, password)
    his = open_context([live.cookie_of(chief, minutes_ago=11)], bypass_csp=False).new_page()
    his.goto(f"/admin/people/{live.bridge.person.id}")
    expect(his.get_by_role("button", name="Link to set a password")).to_have_count(0)
    assert unsound(his, axe) == []
    his.locator("section", has=his.locator("#links")).get_by_role("link", name="Confirm").click()
    his.get_by_label("Your password").fill(password)
    his.get_by_role("button", name="Confirm").click()
    expect(his.get_by_role("heading", name="Lab")).to_be_visible()
    his.get_by_role("button", name="Link to set a password").click()
    expect(his.get_by_label("The link", exact=True)).to_contain_text("/password/")
    assert complaints == []


def test_every_page_of_the_administration_is_accessible_and_fits(
    live: Live, open_context: Callable[..., BrowserContext], complaints: list[str], axe: str
) -> None:
    chief = administrator(live)
    page = open_context([live.cookie_of(chief)], bypass_csp=False).new_page()
    wrong = unsound_of(page, axe, (f"/admin{path}" for path in PAGES))
    staged.environment(live.bridge, "0" * 64, *(f"package-{n}==1.0" for n in range(40)))
    staged.environment(live.bridge, "1" * 64, owner="lab")
    waiting = newcomer(live, "Maria del Carmen Rodríguez-Hernández y Compañía")
    kept, removed = staged.completed(live.bridge), staged.completed(live.bridge, "emg-onset")
    retention.remove(live.bridge, removed.id)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    live.bridge.store.announce(ended_before=tomorrow, leaves_at=tomorrow)
    retention.tidy(live.bridge)
    administration.save_group(chief, "EEG lab", shares=True, members=["lab", "chief"])
    administration.set_quotas(
        chief, live.bridge.person.id, Quotas(stored_bytes=1000, open_runs=0, cpu_hours=0.5)
    )
    administration.disable(chief, newcomer(live, "Gone Long-Ago"))
    long = "a-study-of-many-words-whose-name-has-no-end-and-no-spaces-at-all"
    for number, project in enumerate(("psd-study", long)):
        at = datetime.now(UTC) - timedelta(hours=number)
        staged.unclaimed(live.bridge, "mrodriguez", project, job_id=81_000_000 + number, at=at)
    staged.unclaimed(live.bridge, "bo", "sweep", job_id=3, at=datetime.now(UTC), tasks=(0, 1, 2))
    paths = (
        *(f"/admin{path}" for path in PAGES),
        *(f"/admin/people/{number}" for number in (waiting, live.bridge.person.id)),
        *("/admin/runs?owner=lab", "/admin/runs?owner=nobody", "/admin/log?person=chief"),
        *("/account/prove", "/results", f"/runs/{kept.id}", f"/runs/{removed.id}", "/account"),
    )
    assert wrong + unsound_of(page, axe, paths) == []
    assert complaints == []
