"""The program's log: its setup, and handlers that survive a full disk or a closed pipe."""
