"""Reading a run: drawings and the attribution report."""
