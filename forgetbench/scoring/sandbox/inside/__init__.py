"""What runs inside the sandbox: the standard library only, mounted read-only, started by `server.main`."""
