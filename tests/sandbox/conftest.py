import os
import shutil

import pytest


@pytest.fixture(scope="session")
def bubblewrap() -> None:
    """Bubblewrap is there. CI installs it; elsewhere its tests are left out without it."""
    if shutil.which("bwrap") is None:
        told = "no bubblewrap for the tests of sandboxes; on Debian: apt-get install bubblewrap"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(told)
