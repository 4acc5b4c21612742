"""The settings: read once from the environment and the settings file, and what is derived from them alone.

Not here: turning settings into stores, runners and jobs (`app`).
"""
