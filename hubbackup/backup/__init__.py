"""From a database to a good backup in every target: dump, pipeline, uploads, and what follows a good one.

Not here: the format of names and manifests (`catalog`), and pruning itself (`retention`).
"""
