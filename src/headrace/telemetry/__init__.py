"""What can be measured of a node while it runs. Floor 2: names and values only; the engine counts, servers show."""
