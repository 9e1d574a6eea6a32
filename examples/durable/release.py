"""A graph with a person in the middle: pack an archive, have it approved, publish it.

python examples/durable/release.py [STORE]

What is always done in the same order is a graph, which can be drawn before it runs. What a person does in their own time,
with questions and reminders, is code. The graph has the code as a task: a run of its own, found again after a crash.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from headrace import Headrace, add_task, dag, query, task, wait_for_signal, workflow

SENT: list[str] = []
"""Messages that were sent, in order."""


@task
def pack(folder: str, version: str) -> dict[str, str]:
    """Put the files of a folder into an archive; packing the same again gives the same bytes."""
    archive = Path(folder).with_name(f"release-{version}.zip")
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(Path(folder).iterdir()):
            packed.writestr(zipfile.ZipInfo(file.name), file.read_bytes())
    return {"path": str(archive), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}


@task
def count_files(archive: dict[str, str]) -> int:
    """How many files it has; fails if one of them is damaged."""
    with zipfile.ZipFile(archive["path"]) as packed:
        damaged = packed.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        return len(packed.namelist())


@task(retries=5)
async def notify(person: str, text: str) -> None:
    """Stands for an e-mail."""
    await asyncio.sleep(0)
    SENT.append(f"{person}: {text}")


@workflow
async def approval(archive: dict[str, str], files: int, patience_seconds: float = 86_400.0) -> str:
    """Who approved it, by the signal ``decision``. Reminds them as long as nobody decides; raises if they refuse."""
    question = f"{Path(archive['path']).name}: {files} files, {archive['sha256'][:12]}"

    @query
    def asked() -> str:
        return question

    await notify("release manager", f"please decide on {question}")
    while True:
        try:
            async with asyncio.timeout(patience_seconds):
                decision = await wait_for_signal("decision")
        except TimeoutError:
            await notify("release manager", f"still waiting for you: {question}")
            continue
        if not decision["approved"]:
            raise ValueError(f"refused by {decision['by']}")
        return str(decision["by"])


@task
def publish(archive: dict[str, str], target: str, approved_by: str) -> str:
    """Copy it to where everybody finds it, with its checksum and who answers for it. Does no harm if done twice."""
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    published = shutil.copy(archive["path"], folder)
    note = f"{archive['sha256']}  {Path(published).name}\n# approved by {approved_by}\n"
    Path(f"{published}.sha256").write_text(note, encoding="utf-8")
    return str(published)


@dag
def release(folder: str, version: str, target: str) -> str:
    """Pack, approve, publish."""
    archive = pack(folder, version)
    approved_by = add_task(approval, archive, count_files(archive))
    return publish(archive, target, approved_by)


async def main(store: str) -> None:
    """Release three small files; the manager looks at what is asked and agrees."""
    with tempfile.TemporaryDirectory() as place:
        sources = Path(place) / "sources"
        sources.mkdir()
        for name in ("LICENSE", "README", "mill.txt"):
            (sources / name).write_text(f"This is {name}.\n", encoding="utf-8")
        async with Headrace(store) as headrace:
            params = {"folder": str(sources), "version": "1.0", "target": f"{place}/published"}
            run = await headrace.run(release, params)
            waiting = ""
            while not waiting:  # the approval is a run of its own, which bears the graph's name
                await asyncio.sleep(0.05)
                waiting = "".join(row.run_id for row in await headrace.runs(where=f"tag.graph-run = '{run.id}'"))
            print(await headrace.query(waiting, "asked"))
            await headrace.signal(waiting, "decision", {"approved": True, "by": "Ada"})
            published = Path(await run.result())
            print(published.name, published.with_name(f"{published.name}.sha256").read_text(encoding="utf-8"))
    print("\n".join(SENT))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
