"""Where large values and text output live.

- ``files``: artifacts in a folder, addressed by content;
- ``logs``: one text file per attempt, bounded.
"""
