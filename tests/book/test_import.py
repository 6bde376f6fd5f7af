"""`groundup.book` is imported on request only."""

import subprocess
import sys


def test_both_imports_work_and_torch_is_loaded_only_then() -> None:
    code = (
        "import sys, groundup; assert 'torch' not in sys.modules;"
        "from groundup import book; import groundup.book;"
        "assert book is groundup.book and 'torch' in sys.modules;"
        "assert 'matplotlib' not in sys.modules and 'tiktoken' not in sys.modules;"
        "from groundup.book import *; assert GPTModel is book.GPTModel;"
        "assert GPTDatasetV1 is groundup.GPTDatasetV1"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
