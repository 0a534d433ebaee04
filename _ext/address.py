r"""The repository's address: it stands in pyproject.toml, and one command changes it everywhere.

``python _ext/address.py`` prints it; ``python _ext/address.py owner/name [--tag v0.2.0]`` changes it in every
text file of the tree: links, badges, launch buttons, the notebooks' set-up cells, the version.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from environment import ROOT, files

TEXT = {
    ".cff",
    ".css",
    ".html",
    ".ipynb",
    ".js",
    ".json",
    ".md",
    ".py",
    ".svg",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
}
TEXT |= {""}  # Makefile, LICENSE, .ci/run
HOSTS = {  # what stands before owner/name
    "github": r"github\.com[/:]",
    "raw": r"raw\.githubusercontent\.com/",
    "colab": r"colab\.research\.google\.com/github/",
    "binder": r"mybinder\.org/v2/gh/",
    "badge": r"img\.shields\.io/github/[a-z/-]+/",
}
BEFORE = rf"(?<![A-Za-z0-9.-])(?:{'|'.join(HOSTS.values())})"
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?"
AFTER = r"(?![A-Za-z0-9_-])(?!\.(?!git\b)[A-Za-z0-9])"  # the name ends here: lectool.git, but not lectool.io
TAG = r"v\d+(?:\.\d+)+(?:(?:a|b|rc)\d+)?"
VERSIONS = {  # files in which the version stands by itself
    "pyproject.toml": r'(?m)^(version = ")([^"]+)(")',
    "CITATION.cff": r"(?m)^(version: )(\S+)()",
    "lectool/__init__.py": r'(?m)^(__version__ = ")([^"]+)(")',
}


@dataclass(frozen=True)
class Address:
    """Where the repository lives and which tag readers get."""

    owner: str
    name: str
    tag: str

    @property
    def repo(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def url(self) -> str:
        return f"https://github.com/{self.repo}"

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"lectool @ git+{self.url}@{self.tag}"

    @property
    def install(self) -> str:
        """The line of the set-up cell that runs in Colab."""
        return f'%pip install -q "{self.requirement}"'

    @property
    def pages(self) -> str:
        return f"https://{self.owner.lower()}.github.io/{self.name}/"

    def colab(self, path: str, branch: str = "main") -> str:
        return f"https://colab.research.google.com/github/{self.repo}/blob/{branch}/{path}"


def address(root: Path = ROOT) -> Address:
    """Reads the address and the version from pyproject.toml."""
    text = (root / "pyproject.toml").read_text("utf8")
    url = re.search(rf'(?m)^Repository = "https://github\.com/({NAME})/({NAME})"', text)
    version = re.search(VERSIONS["pyproject.toml"], text)
    if not url or not version:
        raise ValueError(
            f'{root / "pyproject.toml"}: no line Repository = "https://github.com/…", or no version'
        )
    return Address(url[1], url[2], f"v{version[2]}")


def text_files(root: Path = ROOT) -> list[Path]:
    return [path for path in files(root) if path.suffix in TEXT and not path.is_symlink()]


def rewritten(text: str, name: str, old: Address, new: Address) -> str:
    """The text of the file `name` with the new address in place of the old one."""
    repo = re.escape(old.repo)
    ref = rf"(?P<join>(?:\.git)?@|/(?:blob|tree|raw|archive/refs/tags|releases/tag)/|/){re.escape(old.tag)}(?![\w.-])"

    def change(match: re.Match) -> str:
        tail = f"{match['join']}{new.tag}" if match["join"] else ""
        return f"{match['before']}{new.repo}{tail}"

    text = re.sub(
        rf"(?P<before>{BEFORE}){repo}{AFTER}(?:{ref})?", change, text, flags=re.IGNORECASE
    )
    pages = re.compile(
        rf"https://{re.escape(old.owner)}\.github\.io/{re.escape(old.name)}/?(?![\w-])",
        re.IGNORECASE,
    )
    text = pages.sub(lambda m: new.pages if m[0].endswith("/") else new.pages.rstrip("/"), text)
    if name in VERSIONS:
        text = re.sub(VERSIONS[name], lambda m: f"{m[1]}{new.tag[1:]}{m[3]}", text, count=1)
    return text


def change(root: Path, new: Address) -> list[str]:
    """Changes the address in all files of the tree; returns the names of those that changed."""
    old, changed = address(root), {}
    for path in text_files(root):
        try:
            text = path.read_bytes().decode("utf8")
        except UnicodeDecodeError:
            continue
        text_new = rewritten(text, path.relative_to(root).as_posix(), old, new)
        if text_new != text:
            changed[path] = text_new
    for path in sorted(
        changed, key=lambda path: path.name == "pyproject.toml"
    ):  # last: it says what "old" is
        path.write_bytes(changed[path].encode("utf8"))
    return sorted(path.relative_to(root).as_posix() for path in changed)


def disagreements(root: Path = ROOT) -> list[str]:
    """Links, badges and set-up lines that do not agree with pyproject.toml, as "file: what stands there"."""
    right, found = address(root), []
    for path in text_files(root):
        name = path.relative_to(root).as_posix()
        if name.startswith(("tests/", "_ext/")):
            continue
        text = path.read_bytes().decode("utf8", errors="replace")
        for match in re.finditer(
            rf"({BEFORE})({NAME})/({NAME}?)(?:\.git)?{AFTER}([@/][^\s\"'<>)\\]*)?", text
        ):
            before, owner, repo, tail = match.groups()
            repo = repo.removesuffix(".git")
            ours = (owner, repo) == (right.owner, right.name)
            only_ours = "github.com" not in before or text[: match.start()].endswith("git+https://")
            if not ours and (only_ours or owner == right.owner or repo == right.name):
                found.append(f"{name}: {match[0]}")
            elif ours and not _right_ref(tail or "", before, right, root):
                found.append(f"{name}: {match[0]}")
        for match in re.finditer(r"pip install[^\n]*?lectool @ [^\s\"'\\]+", text):
            if right.requirement not in match[0] + " ":
                found.append(f"{name}: {match[0]}")
        pattern = VERSIONS.get(name)
        version = re.search(pattern, text) if pattern else None
        if pattern and (not version or f"v{version[2]}" != right.tag):
            found.append(f"{name}: version {version[2] if version else 'missing'}")
    return found


def _right_ref(tail: str, before: str, right: Address, root: Path) -> bool:
    # what follows owner/name: a tag or branch must be one of ours, a file must exist
    ref = re.match(r"@([^\s/]+)$|/(?:blob|tree|raw)/([^/?#]+)(?:/([^?#]*))?", tail)
    if "mybinder" in before:
        ref = re.match(r"()/([^/?#]+)()", tail)
    if not ref:
        return True
    branch, path = ref[1] or ref[2], (ref[3] if ref.lastindex and ref.lastindex >= 3 else "") or ""
    return branch in (right.tag, "main", "HEAD") and (
        not path or (root / path.rstrip(".,;")).exists()
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Print or change the address of the repository.")
    parser.add_argument("repo", nargs="?", help="owner/name on GitHub")
    parser.add_argument("--tag", help="the tag that readers install, such as v0.2.0")
    options = parser.parse_args(arguments)
    old = address()
    if options.repo or options.tag:
        if options.repo and not re.fullmatch(rf"{NAME}/{NAME}", options.repo):
            parser.error(f"{options.repo!r} is not of the form owner/name")
        if options.tag and not re.fullmatch(TAG, options.tag):
            parser.error(f"{options.tag!r} is no tag of the form v0.2.0")
        owner, name = (options.repo or old.repo).split("/")
        for path in change(ROOT, Address(owner, name, options.tag or old.tag)):
            print(f"changed {path}")
    now = address()
    print(f"{now.url} at {now.tag}\n{now.install}\n{now.pages}")
    wrong = disagreements()
    print("\n".join(["these disagree:", *wrong]) if wrong else "every link agrees")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
