"""What is known about the backups, collected once and judged purely: for page, metrics, `status` and `check`.

Not here: how it is shown (`web`, `cli`) and who is told (`notify`).
"""
