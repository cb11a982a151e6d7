"""A headless Chromium for the tests, from npm, since nothing else reaches every machine that runs `make test`.

`@sparticuz/chromium` carries the browser and the libraries that a bare Debian lacks, packed with brotli. It is unpacked
once per lock file below `var/cache`: no root, no system package, no download but from npm's registry. We unpack
it, so that its own `tar-fs` and the twenty packages behind that are overridden by one of a single line. It is built for
Linux on x86-64. Elsewhere a `chromium` on the PATH is taken, and where there is none the tests fail.
"""

import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template

from playwright.sync_api import Browser, sync_playwright

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import content_hash, file_lock
from apps.sandbox.runtime.node import node_ensure
from apps.sandbox.runtime.paths import CACHE_DIR

_HERE = Path(__file__).resolve().parent
_SOURCES = tuple(_HERE / name for name in ("package.json", "package-lock.json", "__init__.py"))
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Letters ask for the system's fonts; here is a sans and a monospace, the same on every machine.
_FONTS = Template("""<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>$home/fonts</dir>
  <cachedir>$home/fonts/cache</cachedir>
  <alias><family>sans-serif</family><prefer><family>Open Sans</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
""")


@contextmanager
def chromium_open(arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """A browser; contexts and pages are the caller's. Raises `SandboxError` where there is none to be had.

    Playwright keeps an event loop running in this thread for as long. Django takes that for asynchronous code and
    refuses the database, so it is told otherwise; it is one thread, and nothing here awaits.
    """
    executable, environment = _executable()
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    with sync_playwright() as playwright:
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
        try:
            browser = playwright.chromium.launch(
                executable_path=executable,
                # Its sandbox wants what containers and root do not have; the pages are our own.
                chromium_sandbox=False,
                args=["--disable-gpu", *arguments],
                env={**os.environ, **environment},
            )
            yield browser
            browser.close()
        finally:
            if before is None:
                del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
            else:
                os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


def _executable() -> tuple[Path, dict[str, str]]:
    """The program, and what its environment needs."""
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        home = _unpacked()
        return home / "chromium", {
            "LD_LIBRARY_PATH": str(home / "lib"),
            "FONTCONFIG_FILE": str(home / "fonts.conf"),
        }
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found), {}
    raise SandboxError(
        f"no browser: this is no Linux on x86-64, and none of {', '.join(_NAMES)} is on the PATH"
    )


def _unpacked() -> Path:
    """The folder with the browser, its libraries and its fonts; whole or absent, also when tests race."""
    home = CACHE_DIR / f"chromium-{content_hash(_SOURCES)}"
    with file_lock(CACHE_DIR / "chromium.lock"):
        if not home.exists():
            CACHE_DIR.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="chromium-", dir=CACHE_DIR) as folder:
                _fill(Path(folder), home=home)
                for old in CACHE_DIR.glob("chromium-????????????????"):
                    shutil.rmtree(old)
                (Path(folder) / "whole").rename(home)
    return home


def _fill(folder: Path, *, home: Path) -> None:
    node = node_ensure()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(_HERE / name, folder)
    _run([node.npm, "ci", "--no-progress", "--loglevel=error"], folder)
    packed, whole = folder / "node_modules" / "@sparticuz" / "chromium" / "bin", folder / "whole"
    whole.mkdir()
    _run([node.node, _HERE / "unpack.cjs", packed / "chromium.br", whole / "chromium"], folder)
    (whole / "chromium").chmod(0o755)
    for name in ("al2023", "fonts"):
        _run([node.node, _HERE / "unpack.cjs", packed / f"{name}.tar.br", folder / f"{name}.tar"], folder)
        with tarfile.open(folder / f"{name}.tar") as archive:
            archive.extractall(whole, filter="data")
    for font in (folder / "node_modules" / "dejavu-fonts-ttf" / "ttf").glob("DejaVuSansMono*.ttf"):
        shutil.copy(font, whole / "fonts")
    (whole / "fonts.conf").write_text(_FONTS.substitute(home=home))


def _run(command: Sequence[str | Path], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        raise SandboxError(f"{command[0]} failed ({done.returncode}):\n{done.stdout[-4000:]}")
