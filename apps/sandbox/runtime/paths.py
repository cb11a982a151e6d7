"""Where things are. Everything that is made at run time lies below the ignored folder `var/`."""

from pathlib import Path

PACKAGE_DIR = Path(__file__).resolve().parents[1]
ROOT_DIR = PACKAGE_DIR.parents[1]
CONTRACTS_DIR = PACKAGE_DIR / "contracts"
REQUIREMENTS_DIR = ROOT_DIR / "requirements"
VAR_DIR = ROOT_DIR / "var"
CACHE_DIR = VAR_DIR / "cache"
DEFAULT_SANDBOX_DIR = VAR_DIR / "sandbox"
