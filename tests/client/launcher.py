"""The command that a client starts: `launcher.py SOCKET DIR` hands its pipes to the server that waits there.

`DIR/down` exists: it ends at once, as a server that is away. It imports next to nothing, so that it starts at once.
"""

import os
import socket
import sys

waiting, folder = sys.argv[1:3]
if os.path.exists(os.path.join(folder, "down")):
    sys.exit(1)
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(waiting)
    socket.send_fds(connection, [os.fsencode(folder)], [0, 1, 2])
    os.close(0)
    os.close(1)
    connection.recv(1)  # nothing comes, until the server ends
