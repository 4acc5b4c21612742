"""What the bucket itself does with our objects: lifecycle rules, archive and thaw, object lock, hidden versions.

Not here: what we remove ourselves (`retention`), and how an object gets its tag and its lock (`stores`).
"""
