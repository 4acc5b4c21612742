"""What a backup is and what there is of it: names, manifests, marks, and the listing that merges the stores.

Not here: how a backup is made (`backup`), read through (`verify`), or removed (`retention`).
"""
