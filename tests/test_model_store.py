import gc
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

import pytest

from featureid import model_store
from featureid.errors import BundleError, StorageError, UsageError
from featureid.model_store import keep_model, open_model, share_model
from featureid.models import ModelBundle, resolve_model, write_bundle
from featureid.models.bundle import content_digest


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what pipelines of other tests have shared."""
    monkeypatch.setattr(model_store, "_SHARED", WeakValueDictionary())


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return resolve_model("image")


@pytest.mark.parametrize("remote", [False, True], ids=["disk", "object store"])
def test_a_kept_model_is_the_same_one(bundle: ModelBundle, tmp_path: Path, remote: bool) -> None:
    output = "memory://kept" if remote else str(tmp_path / "out")
    place = keep_model(output, bundle)
    assert place.startswith(output)
    assert place.endswith(f"/models/image-{bundle.digest[7:19]}.fidmodel")
    assert open_model(place, bundle.digest, content_digest(bundle)) == bundle


def test_a_kept_model_is_written_once(bundle: ModelBundle, tmp_path: Path) -> None:
    place = Path(keep_model(str(tmp_path), bundle))
    written = place.stat()
    assert keep_model(str(tmp_path), bundle) == str(place)
    assert (place.stat().st_ino, place.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_a_damaged_one_is_refused_by_a_worker_and_replaced_by_a_launcher(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    place = Path(keep_model(str(tmp_path), bundle))
    place.write_bytes(place.read_bytes()[:-100])
    with pytest.raises(BundleError, match=r"image-.*\.fidmodel"):
        open_model(str(place), bundle.digest, content_digest(bundle))
    keep_model(str(tmp_path), bundle)
    assert open_model(str(place), bundle.digest, content_digest(bundle)) == bundle


def test_another_model_is_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    other = "sha256:" + "0" * 64
    for place in ("image", keep_model(str(tmp_path), bundle)):
        with pytest.raises(BundleError, match=f"{bundle.digest}.*started with {other}"):
            open_model(place, other, content_digest(bundle))


def test_a_file_with_that_digest_and_another_network_is_refused(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    """The known models' digests do not follow from their files."""
    place = Path(keep_model(str(tmp_path), bundle))
    network = replace(bundle.network, data=bundle.network.data + b"\0")
    place.write_bytes(write_bundle(replace(bundle, network=network)))
    held = content_digest(bundle)
    with pytest.raises(BundleError, match=f"has the digest .* run was started with {held}"):
        open_model(str(place), bundle.digest, held)


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.fidmodel"):
        open_model(str(tmp_path / "none.fidmodel"), "", "")
    with pytest.raises(UsageError, match="unknown model"):
        open_model("imagine", "", "")


def test_any_name_makes_a_file_name(bundle: ModelBundle, tmp_path: Path) -> None:
    place = Path(keep_model(str(tmp_path), replace(bundle, name="../my model")))
    assert place.parent == tmp_path / "models"
    assert place.name == f".._my_model-{bundle.digest[7:19]}.fidmodel"


def test_a_shared_model_is_not_read_again_while_somebody_holds_it(bundle: ModelBundle) -> None:
    digest = "sha256:" + "1" * 64
    shared = replace(bundle, digest=digest)
    share_model(shared)
    assert open_model("none.fidmodel", digest, digest) is shared
    del shared
    gc.collect()
    with pytest.raises(StorageError, match=r"none\.fidmodel"):
        open_model("none.fidmodel", digest, digest)
