"""Write apps/accounts/signin/breached.txt.gz anew, the list of breached passwords that nobody may choose.

Two well-kept sources, merged: Django's own list (20,000, by Royce Williams) and `passwords.json` of the npm package
`@zxcvbn-ts/language-common` (49,000, MIT). What is shorter than six characters is left out: passwords have at least
ten, and at most four are taken off the end before one is looked up.

    npm pack @zxcvbn-ts/language-common && tar xzf zxcvbn-ts-language-common-*.tgz
    python -m bin.breached_passwords package/src/passwords.json
"""

import gzip
import json
import sys
from pathlib import Path

from django.contrib.auth import password_validation

TARGET = Path(__file__).resolve().parent.parent / "apps/accounts/signin/breached.txt.gz"
SHORTEST = 6


def main() -> None:
    with gzip.open(Path(password_validation.__file__).parent / "common-passwords.txt.gz", "rt") as file:
        known = {line.strip() for line in file}
    known |= set(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    lines = sorted({word.strip().lower() for word in known if len(word.strip()) >= SHORTEST})
    # Without a time in its header the file is the same whenever it is made.
    TARGET.write_bytes(gzip.compress("\n".join(lines).encode(), compresslevel=9, mtime=0))
    print(f"{len(lines)} passwords in {TARGET.name}, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
