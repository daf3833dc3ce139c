"""The key broker: releases layer keys to hosts by policy, and can prove every release.

A private room: its HTTP interface (docs/broker) is what others may rely on. ADR 0025 has the
picture of it.
"""
