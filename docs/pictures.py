"""Draw the pictures of the tutorial again: python docs/pictures.py

They are what the code of docs/tutorial.md saves.
"""

import doctest
import os
import shutil
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent


def main() -> None:
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    os.environ["MPLBACKEND"] = "agg"
    names: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for example in doctest.DocTestParser().get_examples(text.replace("```", "\n")):
            exec(compile(example.source, "tutorial.md", "exec"), names)
        for picture in sorted(Path(folder).glob("*.png")):
            print(shutil.copy(picture, DOCS / "_static"))
        os.chdir(DOCS)


if __name__ == "__main__":
    main()
