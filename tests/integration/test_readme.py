"""Every command and every program of the README and of docs/sdk.md runs as it stands there, on a local cluster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.cluster import LocalCluster

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SDK = (ROOT / "docs" / "sdk.md").read_text()
TESTING = (ROOT / "docs" / "testing.md").read_text()
BIN = Path(sys.executable).parent


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks(README, "sh") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("line", [line for block in blocks(TESTING, "") for line in block.splitlines()])
def test_what_the_page_on_testing_says_to_type_is_there(line: str) -> None:
    """Long runs are asked only what they would do."""
    command = line.partition("#")[0].replace(".venv/bin/python", sys.executable).strip()
    if command.startswith("make "):
        command = command.replace("make ", "make -n ", 1)
    elif "tests.simulation" not in command:
        command += " --help"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with LocalCluster() as cluster:
        yield {**os.environ, **cluster.environment}


def run(command: list[str], environment: dict[str, str]) -> str:
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_commands_run_and_the_second_token_is_larger(environment: dict[str, str]) -> None:
    assert len(COMMANDS) >= 4
    tokens = []
    for command in COMMANDS:
        said = run(["sh", "-c", command.replace(".venv/bin", str(BIN))], environment)
        tokens += [int(token) for token in re.findall(r"^token (\d+)$", said, re.MULTILINE)]
    assert len(tokens) == 2
    assert tokens[0] < tokens[1]


def test_the_examples_of_http_answer(environment: dict[str, str]) -> None:
    asked = [command for command in COMMANDS if command.startswith("curl ")]
    answers = [json.loads(run(["sh", "-c", command.replace("invoices%2F7", "curl")], environment)) for command in asked]
    assert (answers[0]["name"], answers[1]["holders"][0]["token"]) == ("curl", answers[0]["token"])
    assert "records" in answers[2]["result"]


def test_the_programs_run(environment: dict[str, str]) -> None:
    programs = blocks(README, "python")
    assert programs
    for program in programs:
        assert run([sys.executable, "-c", program], environment).startswith("token ")


SAID = [
    "",
    r"token \d+ remaining 30\nheld True \S+\ntried True\n",
    r"lost STOLEN maintenance\n",
    r"held 100\n",
    r"holder b'ada' free 0\ncheck True True\nnames \['reports/1'\]\nlost FORCED\n",
    r"held True 0\n",
    r"token \d+\n",
]


@pytest.mark.parametrize(("number", "said"), list(enumerate(SAID)))
def test_the_programs_of_the_sdks_page_say_what_they_should(
    environment: dict[str, str], number: int, said: str
) -> None:
    programs = blocks(SDK, "python")
    assert len(programs) == len(SAID)
    assert re.fullmatch(said, run([sys.executable, "-c", programs[number]], environment))


def test_the_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        links = re.findall(r"\]\((?!http)([^)#]+)", page.read_text())
        assert [link for link in links if not (page.parent / link).exists()] == []
