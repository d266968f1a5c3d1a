"""Who embeds the hub does not pay for the client."""

import subprocess
import sys


def test_importing_contextdna_imports_neither_the_client_nor_the_protocol() -> None:
    program = "import sys, contextdna; print([n for n in ('contextdna.client', 'mcp', 'httpx2') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
