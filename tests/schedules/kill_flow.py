"""What the nodes that are killed carry out."""

from headrace import dag, task


@task
def nothing() -> int:
    return 1


with dag("nothing_much") as nothing_much:
    nothing()
