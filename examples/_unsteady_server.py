"""A server that an example can switch off: `_unsteady_server.py SWITCH DATA`.

It leaves its process id in the folder SWITCH, and does not start while a file `off` is there.
"""

import os
import runpy
import sys
from pathlib import Path

switch, data = map(Path, sys.argv[1:3])
if (switch / "off").exists():
    sys.exit(1)
switch.mkdir(parents=True, exist_ok=True)
(switch / "pid").write_text(str(os.getpid()), encoding="ascii")
sys.argv = ["contextdna", "serve", "--data", str(data)]
runpy.run_module("contextdna_server", run_name="__main__", alter_sys=True)
