"""The node process: many groups over one event loop, one journal and one listener."""
