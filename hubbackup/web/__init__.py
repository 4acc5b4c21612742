"""The status page: from a snapshot to HTML and SVG, and the server that shows it.

Not here: what is known (`status`). Nothing in this room asks a store or a database.
"""
