"""The function behind hello.yaml."""


def greet(name: str) -> str:
    """A plain function: it can be called and tested without Headrace."""
    return f"Hello, {name}!"
