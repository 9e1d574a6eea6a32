"""Payloads that the store never sees in the clear: encrypted with a key of yours, and a new key next year.

python examples/durable/encryption.py [STORE]      (needs: pip install 'headrace[encryption]')
"""

from __future__ import annotations

import asyncio
import sys

from headrace import Compression, Encryption, Headrace, HeadraceError, task, wait_for_signal, workflow


@task(retries=3)
async def diagnose(patient: str, finding: str) -> str:
    """Stands for something nobody else may read."""
    await asyncio.sleep(0)
    return f"{patient}: {finding}"


@workflow
async def examine(patient: str) -> str:
    """Wait for a finding, then judge it. Parameters, signals, arguments and results are all sealed."""
    finding = await wait_for_signal("finding")
    return await diagnose(patient, str(finding))


async def main(store: str) -> None:
    """Begin with one key, go on with another, and look without any."""
    old, new = Encryption.new_key(), Encryption.new_key()

    async with Headrace(store, codec=[Compression(), Encryption({"2029": old})]) as headrace:
        run = await headrace.start(examine, "Ada Lovelace")

    both = Encryption({"2029": old, "2030": new})  # the last one seals, both of them open
    async with Headrace(store, codec=[Compression(), both]) as headrace:
        await headrace.signal(run.id, "finding", "in good health")
        print(await (await headrace.get(run.id)).result())

    async with Headrace(store, adopt=False) as headrace:
        print((await headrace.runs(workflow="examine"))[0].state)  # lists need no key
        try:
            await headrace.show(run.id)
        except HeadraceError as error:
            print(f"{type(error).__name__}: {error.message}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
