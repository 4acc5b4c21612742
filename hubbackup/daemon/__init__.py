"""The long-running process: the scheduler, the watchdog for silence, and the thread of the status page."""
