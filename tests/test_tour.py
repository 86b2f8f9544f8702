"""The notebook, executed as a newcomer does, on few images."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
TOUR = ROOT / "study" / "tour.ipynb"


def test_the_tour_runs_and_has_no_outputs_in_the_repository(tmp_path, monkeypatch):
    notebook = nbformat.read(TOUR, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    for name, folder in {
        "TMPDIR": "",
        "MOE_STORE": "stages",
        "IPYTHONDIR": "ipython",
        "JUPYTER_RUNTIME_DIR": "jupyter",
    }.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=tmp_path)  # an error in a cell is one here
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    texts = "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in shown)
    assert "phase search: 4 of 4 trials done" in texts
    assert "estimated gain" in texts
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert shown[-1]["data"]["text/plain"] == "True"  # reproduced, bit for bit
