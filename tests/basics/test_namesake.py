"""The other project called planar: noticed, named, and mended by what the message says."""

import subprocess
import sys

import pytest

from so3ntk.basics import namesake


@pytest.fixture
def other(tmp_path, monkeypatch):
    """That project's files and metadata, first on the path."""
    package, metadata = tmp_path / "planar", tmp_path / "planar-0.4.dist-info"
    for folder in (package, metadata):
        folder.mkdir()
    (package / "__init__.py").write_text('"""2D planar geometry."""\n')
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: planar\nVersion: 0.4\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_without_it_nothing_is_said(recwarn):
    namesake.warn_of_namesake()
    assert namesake.planar_is_ours()
    namesake.require_planar("so3ntk images")
    assert not recwarn


@pytest.mark.filterwarnings("ignore")
def test_it_is_named_with_a_remedy(other, monkeypatch):
    monkeypatch.delitem(sys.modules, "planar", raising=False)
    with pytest.warns(UserWarning, match=r"version 0\.4.*the other one.*pip uninstall -y planar"):
        namesake.warn_of_namesake()
    with pytest.raises(ImportError, match=r"so3ntk images: .*pip uninstall -y planar"):
        namesake.require_planar("so3ntk images")
    (other / "planar" / "__init__.py").write_text("import so3ntk")  # as if so3ntk had been installed after it
    with pytest.warns(UserWarning, match="so3ntk's, and the other is broken"):
        namesake.warn_of_namesake()


def test_importing_so3ntk_says_it(other):
    code = f"import sys; sys.path.insert(0, {str(other)!r}); import so3ntk"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "another project of this name, version 0.4" in done.stderr
