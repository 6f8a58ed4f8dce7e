"""The SDK's logic without I/O: time and messages come in; messages, wake-ups and settled waiters go out.

The asyncio client and the simulator drive the same code (``docs/sdk.md``).
"""
