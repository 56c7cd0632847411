"""The README's walk around the cluster of containers: each command as printed, the page between."""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from client import zipped
from containers import BUILD_SECONDS, Containers, eventually
from playwright.sync_api import Page, expect

README = Path(__file__).parents[2] / "README.md"
PROJECT = {
    "code.py": "import socket\nopen('output/where.txt', 'w').write(socket.gethostname())\n",
    "requirements.txt": "",
}
RUN_MS = 60_000


@pytest.fixture
def page(containers: Containers) -> Iterator[Page]:
    with chromium.launched() as browser:
        page = browser.new_page(base_url=containers.url)
        page.set_default_timeout(20_000)
        yield page


def printed() -> tuple[list[str], str]:
    """The commands of the README's section, and what is typed on the login node after the last."""
    section = README.read_text().split("## A cluster of containers\n")[1].split("\n## ")[0]
    commands = re.findall(r"^\$ (.+)$", section, re.MULTILINE)
    typed = re.findall(r"^ana@login:~\$ (.+)$", section, re.MULTILINE)
    return commands, "".join(f"{line}\n" for line in typed)


def run(containers: Containers, command: str, typed: str = "") -> str:
    """What a printed command prints where the cluster is built from.

    Its ports and names are not the usual ones, as the overlay's README says how; ssh is told which
    key is meant and not to ask about the host's.
    """
    key = f"-i {containers.key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    command = command.replace("ssh -p 2222", f"ssh -p {containers.ssh_port} {key}")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=containers.folder,
        env={**os.environ, **containers.variables, "HOME": str(containers.folder)},
        input=typed,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_walk_of_the_readme_goes_as_printed(containers: Containers, page: Page) -> None:
    (up, links, authorize, ssh), typed = printed()
    containers.compose("down", "--volumes", "--timeout", "2")
    run(containers, up)

    told = run(containers, links)
    people = re.findall(r"This link signs in as (\w+)@example\.org, once, .*: (\S+)$", told, re.M)
    assert [person for person, _ in people] == ["ana", "ben", "administrator"]
    link = dict(people)["ana"]
    assert link.startswith(f"{containers.url}/")
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="Ana Costa")).to_be_visible()
    node = uploaded_and_back(page)
    sent = containers.client_of("ana").run(int(page.url.rpartition("/")[2]))
    page.goto(link)
    expect(page.get_by_text("used already")).to_be_visible()

    folder = containers.folder / ".ssh"
    folder.mkdir()
    containers.make_key()
    (folder / "id_ed25519.pub").write_bytes(containers.public_key.read_bytes())
    run(containers, authorize)
    # The record of a job that has just ended may have another's name for a while.
    eventually(lambda: sent["job_name"] in {r.name for r in containers.records()}, seconds=20)
    (hers,) = (r for r in containers.records() if r.name == sent["job_name"])
    assert (hers.state, hers.node) == ("COMPLETED", node)
    told = run(containers, ssh, typed)
    (job_id,) = re.findall(r"^Submitted batch job (\d+)$", told, re.MULTILINE)
    assert re.search(rf"^{hers.job_id} +.+ COMPLETED +0:0 *$", told, re.MULTILINE)
    ended = {"COMPLETED"}
    eventually(
        lambda: {r.state for r in containers.records() if r.job_id == int(job_id)} == ended,
        seconds=30,
    )


def uploaded_and_back(page: Page) -> str:
    """Send a project by the page and fetch its results; returns the node it ran on."""
    page.goto("/upload")
    body = zipped("Where it runs", PROJECT)
    page.locator("#file").set_input_files(
        {"name": "project.zip", "mimeType": "application/zip", "buffer": body}
    )
    page.get_by_role("button", name="Run it").click()
    status = page.locator("#status")
    expect(status).to_contain_text("Completed", timeout=RUN_MS)
    shown = re.search(r"It ran for .* on (c1|c2)\.", status.inner_text())
    assert shown, status.inner_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download results").click()
    with zipfile.ZipFile(download.value.path()) as results:
        assert results.read("where.txt").decode() == shown[1]
    return shown[1]
