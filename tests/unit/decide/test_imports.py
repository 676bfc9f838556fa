import subprocess
import sys


def test_deciding_needs_no_torch():
    code = "import sys, flywheel.decide; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
