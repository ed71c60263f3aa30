"""The serial line to the firmware, layer by layer: transport, session, protocol, device.

In: bytes of a serial transport. Out: checked replies. Knows no board and no network; `firmware/runtime` is its peer.
"""
