"""How attempts are carried out.

- ``inline``, ``thread``, ``process``: executors of Python calls (``process_*`` is the far side of the last one);
- ``python_task``, ``shell_task``, ``http_task``: the built-in task kinds; ``kinds`` finds plug-ins;
- ``targets``, ``arguments``, ``settings``: from a definition to a callable with fitting arguments;
- ``watched_process``, ``group_guard``: child processes that never outlive their purpose;
- ``binding``: an attempt's log and work folder.
"""
