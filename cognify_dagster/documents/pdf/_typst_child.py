"""Runs in a child process: renders one folder with typst under resource limits. Knows nothing of the package.

Protocol: JSON on stdin (`root`, `main`, `inputs`, `fonts`, `timestamp`, `standards`, `format`, `memory`, `cpu`, `output`), the document on stdout, messages on
stderr, exit code 0 only for a document without any warning. It reads below `root` and in the folders of `fonts` only, and opens no socket.
"""

from __future__ import annotations

import json
import sys


def _limit(memory: int, cpu: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows: the parent's timeout remains
        return
    for name, value in (("RLIMIT_AS", memory), ("RLIMIT_CPU", cpu), ("RLIMIT_CORE", 0)):
        kind = getattr(resource, name, None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (allowed, hard))


def main() -> int:
    """Render what stdin describes."""
    job = json.loads(sys.stdin.buffer.read())
    _limit(job["memory"], job["cpu"])
    import typst

    options = {"pdf_standards": job["standards"]} if job["format"] == "pdf" else {"ppi": 80.0}
    result, warnings = typst.compile_with_warnings(
        job["root"] + "/" + job["main"],
        root=job["root"],
        font_paths=typst.Fonts(include_system_fonts=False, font_paths=job["fonts"]),
        ignore_system_fonts=True,
        sys_inputs=job["inputs"],
        timestamp=job["timestamp"],
        package_path=job["root"],
        format=job["format"],
        **options,
    )
    for warning in warnings:
        sys.stderr.write(f"{getattr(warning, 'message', warning)}\n")
    if warnings or result is None:
        return 3
    pages = result if isinstance(result, list) else [result]
    if sum(map(len, pages)) > job["output"]:
        sys.stderr.write(f"the document has {sum(map(len, pages))} bytes; {job['output']} are allowed\n")
        return 5
    if job["format"] == "pdf":
        sys.stdout.buffer.write(pages[0])
    else:
        for number, page in enumerate(pages, 1):
            with open(f"{job['root']}/page-{number:02d}.png", "wb") as stream:
                stream.write(page)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MemoryError:
        sys.stderr.write("out of memory\n")
        sys.exit(4)
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)
