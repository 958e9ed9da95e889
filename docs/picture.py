"""Make docs/demo.svg: what the demo prints, in the colours of a terminal. Run by `make picture`."""

from pathlib import Path

from rich.console import Console

from hybridsearch.demo import demo

console = Console(record=True, width=132, force_terminal=True)
demo(console, None)
console.save_svg(str(Path(__file__).parent / "demo.svg"), title="make demo")
